-- Takes tokens from each bucket and returns 0, or takes none and returns the ms until each has enough. A bucket refills
-- evenly; its key holds the time at which it is full. The buckets' keys stand behind the named KEYS. Behind the named ARGV
-- stand, for each bucket, the ms in which it gains a token, its size, and the tokens to take, at most all. Only the part
-- `share` of these is taken, if that is given.
local function take_tokens(share)
  local time, wait, full = redis.call('TIME'), 0, {}
  time = time[1] * 1000 + time[2] / 1000
  for i = 1, (#ARGV - named_arguments) / 3 do
    local interval, size, taken = unpack(ARGV, named_arguments + 3 * i - 2, named_arguments + 3 * i)
    full[i] = math.max(tonumber(redis.call('GET', KEYS[named_keys + i]) or 0), time)
      + interval * math.min(taken, size) * (share or 1)
    wait = math.max(wait, full[i] - time - interval * size)
  end
  if wait > 0 then
    return math.ceil(wait)
  end
  for i, moment in ipairs(full) do
    redis.call('SET', KEYS[named_keys + i], string.format('%.3f', moment), 'PX', math.max(math.ceil(moment - time), 1))
  end
  return 0
end
