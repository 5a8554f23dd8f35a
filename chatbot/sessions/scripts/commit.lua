-- Keeps a reply, tells of it, and goes on to the next message or lets go, in one step.
-- ARGV: session, fence, lease in ms, grace in ms, most messages in a prompt, go on?, message,
--       reply id, reply as JSON, channel, frame, time to live in ms, channel of the owner, frame with the last of the text or '',
--       most messages in the log or 0
local message, reply_id = ARGV[7], ARGV[8]
if not owns(ARGV[2]) or not exists() or redis.call('LINDEX', pending, 0) ~= message then
  return {'lost'}
end
local turn = string.match(redis.call('HGET', index, message), '^h:%d+:(%d+)$')
local gone, gone_turns = trimmed()
turn = turn - gone_turns
local entry = redis.call('LINDEX', turns, turn)
if not string.find(entry, ':') then
  if ARGV[14] ~= '' then
    publish(ARGV[10], ARGV[14])
  end
  local length = redis.call('JSON.ARRAPPEND', document, '.messages', ARGV[9])
  redis.call('LSET', turns, turn, entry .. ':' .. (gone + length - 1))
  redis.call('HSET', index, reply_id, 'b:' .. (gone + length - 1))
  publish(ARGV[10], ARGV[11], gone + length)
  trim(tonumber(ARGV[15]), length, message)
end
touch(ARGV[12])
return settle(message, ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[13])
