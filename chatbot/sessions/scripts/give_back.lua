-- Takes back what `admit` or `take` took, as the session's partition refused the request: the tokens, and the session's
-- place in the line unless `stays`. The last of KEYS is the line.
local time = redis.call('TIME')
time = time[1] * 1000 + time[2] / 1000
for i = 1, (#ARGV - named_arguments) / 3 do
  local interval, size, taken = unpack(ARGV, named_arguments + 3 * i - 2, named_arguments + 3 * i)
  local key = KEYS[named_keys + i]
  local full = tonumber(redis.call('GET', key) or 0) - interval * math.min(taken, size)
  if full > time then
    redis.call('SET', key, string.format('%.3f', full), 'PX', math.max(math.ceil(full - time), 1))
  else
    redis.call('DEL', key)
  end
end
if stays == '0' then
  redis.call('ZREM', KEYS[#KEYS], session)
end
return 'given back'
