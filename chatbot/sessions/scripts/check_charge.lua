-- Whether a charge must still be settled: 'open' while its request is unanswered, or its usage is in the outbox. Else 'none',
-- also when the request was never accepted.
if redis.call('HGET', charges, message) == charge then
  if exists() and redis.call('LPOS', pending, message) then
    return 'open'
  end
  -- A version without charges has settled the request, or ended the session: what was reserved counts as used.
  redis.call('HDEL', charges, message)
  redis.call('HSET', outbox, charge, 'reserved:0:0:0')
end
return redis.call('HEXISTS', outbox, charge) == 1 and 'open' or 'none'
