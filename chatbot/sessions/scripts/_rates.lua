-- Takes one token from each bucket and returns 0, or takes none and returns the ms until each has one. A bucket refills
-- evenly; its key holds the time at which it is full. The buckets' keys stand behind the named KEYS; behind the named
-- ARGV stand, for each, the ms in which it gains a token and how many it holds.
local function take_tokens()
  local time, wait, full = redis.call('TIME'), 0, {}
  time = time[1] * 1000 + time[2] / 1000
  for i = 1, (#ARGV - named_arguments) / 2 do
    local interval, size = ARGV[named_arguments + 2 * i - 1], ARGV[named_arguments + 2 * i]
    full[i] = math.max(tonumber(redis.call('GET', KEYS[named_keys + i]) or 0), time) + interval
    wait = math.max(wait, full[i] - time - interval * size)
  end
  if wait > 0 then
    return math.ceil(wait)
  end
  for i, moment in ipairs(full) do
    redis.call('SET', KEYS[named_keys + i], string.format('%.3f', moment), 'PX', math.ceil(moment - time))
  end
  return 0
end
