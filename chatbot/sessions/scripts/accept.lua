-- Stores a human message, publishes it, and adds its session to the ledger. A known id is not stored again.
if not exists() then
  return {'gone'}
end
local gone, gone_turns = trimmed()
local known = redis.call('HGET', index, message)
if known then
  local turn = string.match(known, '^h:%d+:(%d+)$')
  if not turn then
    return {'not_yours'}
  end
  touch()
  local reply = string.match(redis.call('LINDEX', turns, turn - gone_turns), ':(%d+)$')
  return {
    'known',
    reply and redis.call('JSON.GET', document, '.messages[' .. reply - gone .. ']') or '',
    redis.call('HGET', failed, message) or ''
  }
end
local refusal, wait = refuse()
if refusal then
  return refusal
end
local length = redis.call('JSON.ARRAPPEND', document, '.messages', content)
local position = gone + length - 1
local turn = redis.call('RPUSH', turns, position) + gone_turns - 1
redis.call('HSET', index, message, 'h:' .. position .. ':' .. turn)
local number = publish('{"type":"message",' .. string.sub(content, 2), gone + length)
trim(gone, length)
return await_reply(wait, number)
