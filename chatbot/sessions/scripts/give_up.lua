-- Counts a failed attempt at a damaged session and releases its lease: 'again', and the next attempt is due a second
-- later. After `attempts` of them the session is given up. One with a key of a wrong type ends, as no version of the
-- scripts can read it. Any other is set aside with all its keys: the answer has the id of its next message, and the number
-- of the event that publishes its failure.
local count = redis.pcall('INCR', damaged)
if type(count) == 'number' and count < tonumber(attempts) then
  redis.call('PEXPIRE', damaged, ttl_ms)
  redis.call('DEL', lease)
  redis.call('ZADD', ledger, 'XX', now() + 1000, session)
  return {'again'}
end
local message = redis.pcall('LINDEX', pending, 0)
local number = message and redis.pcall('HINCRBY', state, 'events', 1)
if wrong_type == '1' or type(message) == 'table' or type(number) == 'table' then
  end_session()
  return {'ended'}
end
leave_lines()
redis.call('DEL', lease, damaged)
return {'set_aside', message or '', number or 0}
