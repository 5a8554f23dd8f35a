-- Records that a message gets no reply unless it is retried, tells of it, and goes on, in one step.
-- ARGV: session, fence, lease in ms, grace in ms, most messages in a prompt, go on?, message,
--       what the person is told, channel, frame, time to live in ms, channel of the owner
local message = ARGV[7]
if not owns(ARGV[2]) or not exists() or redis.call('LINDEX', pending, 0) ~= message then
  return {'lost'}
end
redis.call('HSET', failed, message, ARGV[8])
publish(ARGV[9], ARGV[10])
touch(ARGV[11])
return settle(message, ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[12])
