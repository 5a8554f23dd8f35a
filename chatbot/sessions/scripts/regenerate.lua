-- Requests another reply to the human message `of`, or to that of the reply `of`. A known id is not stored again.
if not exists() then
  return {'gone'}
end
local turn = turn_of(of)
if redis.call('HEXISTS', index, message) == 1 then
  local known = turn_of(message)
  local human = known and positions(known)
  if not human or select(3, branch(known)) ~= message then
    return {'not_yours'}
  end
  local answer = known_request(known)
  answer[4] = id_at(human)
  return answer
end
local human = turn and positions(turn)
if not human then
  return {'unknown'}
end
local refusal, wait = refuse()
if refusal then
  return refusal
end
local parent, first = branch(turn)
add_turn(message, human, parent, first or turn)
local id = id_at(human)
local number = publish('{"type":"request","id":"' .. message .. '","reply_to":"' .. id .. '"}')
return await_reply(wait, number, id)
