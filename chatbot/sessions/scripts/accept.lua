-- Stores a human message, publishes it, and adds its session to the ledger. A known id is not stored again.
-- The message follows `parent`: a message or a request, '*' for the leaf, '' for the beginning. With `sibling` it follows
-- what that human message follows. `content` is the message's JSON up to its parent.
if not exists() then
  return {'gone'}
end
if redis.call('HEXISTS', index, message) == 1 then
  local turn, human = turn_of(message)
  if not human then
    return {'not_yours'}
  end
  local known = known_request(turn)
  known[4] = redis.call('JSON.GET', document, '$.messages[' .. positions(turn) - trimmed() .. '].parent')
  return known
end

local parent, name = -1, 'null'
if sibling ~= '' then
  local turn, human = turn_of(sibling)
  if not human then
    return {turn and 'not_editable' or 'unknown'}
  end
  parent = branch(turn)
  local path = '$.messages[' .. positions(turn) - trimmed() .. '].parent'
  name = string.match(redis.call('JSON.GET', document, path), '^%[(.+)%]$') or parent_json(parent)
elseif parent_id ~= '' then
  parent = parent_id == '*' and leaf() or turn_of(parent_id)
  if not parent then
    return {'unknown'}
  end
  name = parent_json(parent)
end
local refusal, wait = refuse()
if refusal then
  return refusal
end
local gone = trimmed()
local text = content .. name .. '}'
local length = redis.call('JSON.ARRAPPEND', document, '.messages', text)
add_turn(message, gone + length - 1, parent)
local number = publish('{"type":"message",' .. string.sub(text, 2), gone + length)
trim(gone, length)
return await_reply(wait, number, name)
