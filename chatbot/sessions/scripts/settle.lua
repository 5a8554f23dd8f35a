-- Adds what a request used to the usage of its API key, in place of what was reserved for it. A charge counts once: without
-- its reservation it was settled before.
local held = tonumber(redis.call('HGET', reserved, charge))
if not held then
  return 'settled before'
end
redis.call('HDEL', reserved, charge)
local prompted, completion = tonumber(prompt_tokens), tonumber(completion_tokens)
if outcome == 'reserved' then
  prompted = tonumber(string.match(charge, '(%d+):%d+$'))
  completion = held - prompted
end
local counted = outcome == 'failed' and 'failed' or outcome ~= 'released' and 'requests' or nil
for _, key in ipairs({day, month, total}) do
  if key ~= total then
    redis.call('HINCRBY', key, 'reserved_requests', -1)
    redis.call('HINCRBY', key, 'reserved_tokens', -held)
    redis.call('PEXPIRE', key, keep_ms)
  end
  if counted then
    redis.call('HINCRBY', key, counted, 1)
  end
  redis.call('HINCRBY', key, 'prompt_tokens', prompted)
  redis.call('HINCRBY', key, 'completion_tokens', completion)
  redis.call('HINCRBY', key, 'cached_tokens', cached_tokens)
end
local limit = tonumber(redis.call('HGET', facts, 'tokens_minute'))
if limit then
  -- The rate of tokens gets back, or pays, the difference to what was reserved.
  local time, difference = now(), math.min(prompted + completion, limit) - math.min(held, limit)
  set_filling(token_rate, filling(token_rate, limit, difference, time), time)
end
return 'settled'
