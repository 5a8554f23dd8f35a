-- Stores a reply, publishes it, and settles its message. `last_delta` is a frame with the text not yet published, or ''.
if not may_settle() then
  return {rejection()}
end
local turn = string.match(redis.call('HGET', index, message), '^h:%d+:(%d+)$')
local gone, gone_turns = trimmed()
local entry = redis.call('LINDEX', turns, turn - gone_turns)
if not string.find(entry, ':') then
  if last_delta ~= '' then
    publish(last_delta)
  end
  local length = redis.call('JSON.ARRAPPEND', document, '.messages', reply)
  local position = gone + length - 1
  redis.call('LSET', turns, turn - gone_turns, entry .. ':' .. position)
  -- A client that saw the reply's id in deltas may have sent a message with it, which stays the one of that name.
  redis.call('HSETNX', index, reply_id, 'b:' .. position .. ':' .. turn)
  publish(frame, gone + length, trace)
  trim(gone, length, message)
end
return settle()
