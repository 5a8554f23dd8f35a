-- While a reply is generated: keeps the text, publishes it, renews the lease, reads the stop flag.
-- ARGV: session, fence, lease in ms, grace in ms, message, text, byte at which it belongs, channel, frame,
--       channel of the owner
local text, offset = ARGV[6], tonumber(ARGV[7])
if not owns(ARGV[2]) or not exists() then
  return 'lost'
end
hold_lease(ARGV[1], ARGV[3], ARGV[4], ARGV[10])
if redis.call('HGET', state, 'stop') == ARGV[5] then
  return 'stop'
end
if text ~= '' then
  if offset == 0 then
    redis.call('SET', partial, text)
  elseif redis.call('STRLEN', partial) ~= offset then
    return 'behind'
  else
    redis.call('APPEND', partial, text)
  end
  redis.call('PEXPIRE', partial, redis.call('PTTL', document))
  publish(ARGV[8], ARGV[9])
end
return 'on'
