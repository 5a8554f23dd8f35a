-- Stores the user's opinion of a reply with it, or deletes that for an empty `content`, and publishes it.
if not exists() then
  return {'gone'}
end
local known = redis.call('HGET', index, message)
local position = string.match(known or '', '^b:(%d+)')
if not position then
  return {known and 'not_a_reply' or 'unknown'}
end
local path = '.messages[' .. position - trimmed() .. '].feedback'
if content == '' then
  redis.call('JSON.DEL', document, path)
else
  redis.call('JSON.SET', document, path, content)
end
-- The bytes of the log are measured again.
redis.call('HDEL', state, 'counted')
publish(frame)
touch()
return {'stored'}
