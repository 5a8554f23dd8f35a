-- The tree of a session's turns. A turn is a request for one reply: a human message and the reply to it. A regeneration
-- makes another turn of the same message. Turns are numbered from the session's start in the order of the log. A turn
-- follows the one before it in the log, unless the index has a branch for it: under '^<turn>' the value '<parent>', or
-- '<parent>:<first turn of the message>:<request>' for a regeneration. The parent -1 is the beginning. `branches` in
-- `state` lists the turns with a branch. In a tree '#<turn>' counts the turns on the path before a turn. A version without
-- branches ignores them all: to it the tree is a line.

local function has_branches()
  return redis.call('HEXISTS', state, 'branches') == 1
end

-- The parent of a turn; for a regeneration also the first turn of its message, and the request's id.
local function branch(turn)
  local stored = redis.call('HGET', index, '^' .. turn)
  if not stored then
    return turn - 1
  end
  local parent, first, request = string.match(stored, '^(%-?%d+):?(%d*):?(.*)$')
  return tonumber(parent), tonumber(first), request ~= '' and request or nil
end

-- Counts the turns on the path before a turn. Between two branches a path follows the log. Turns of a version that does
-- not store it, and those before the first branch, have no count stored.
local function depth(turn)
  if not has_branches() or turn < 0 then
    return turn
  end
  local stored = redis.call('HGET', index, '#' .. turn)
  if stored then
    return tonumber(stored)
  end
  local found, count, at = {}, 0, turn
  for number in string.gmatch(redis.call('HGET', state, 'branches'), '%d+') do
    found[#found + 1] = tonumber(number)
  end
  for i = #found, 1, -1 do
    if found[i] <= at then
      count, at = count + at - found[i] + 1, (branch(found[i]))
    end
  end
  return count + at
end

-- The number of the newest turn.
local function last_turn()
  local _, gone_turns = trimmed()
  return gone_turns + redis.call('LLEN', turns) - 1
end

-- The turn of a message or a request, nil for an unknown id, and whether the id is that of a human message.
local function turn_of(id)
  local _, gone_turns = trimmed()
  local known = redis.call('HGET', index, id)
  local kind, position, turn = string.match(known or '', '^(%a):(%d+):?(%d*)$')
  if kind == 'b' and turn == '' then
    -- A version without branches stored this reply.
    local request = redis.call('JSON.GET', document, '.messages[' .. position - trimmed() .. '].reply_to')
    turn = string.match(redis.call('HGET', index, string.sub(request, 2, -2)) or '', '^h:%d+:(%d+)$')
  end
  turn = tonumber(turn)
  if not turn or turn < gone_turns then
    return nil
  end
  return turn, kind == 'h' and not select(3, branch(turn))
end

-- The positions of a turn's messages; its reply's is nil without a reply, and so is that of a message that was dropped.
local function positions(turn)
  local gone, gone_turns = trimmed()
  if turn < gone_turns then
    return nil
  end
  local human, bot = string.match(redis.call('LINDEX', turns, turn - gone_turns) or '', '^(%d+):?(%d*)$')
  human, bot = tonumber(human), tonumber(bot)
  return human and human >= gone and human or nil, bot and bot >= gone and bot or nil
end

local function id_at(position)
  return string.sub(redis.call('JSON.GET', document, '.messages[' .. position - trimmed() .. '].id'), 2, -2)
end

-- The turn whose last message is the last one of the path that the session shows.
local function leaf()
  local last = last_turn()
  local turn, newest = string.match(redis.call('HGET', state, 'leaf') or '', '^(%d+):(%d+)$')
  -- Another number was the newest: a version without branches has added turns, which it shows.
  return tonumber(newest) == last and tonumber(turn) or last
end

-- The leaf's id as JSON: that of its reply, or else of its human message.
local function leaf_json()
  local human, bot = positions(leaf())
  local position = bot or human
  return position and '"' .. id_at(position) .. '"' or 'null'
end

-- What a message that follows `turn` names as its parent, as JSON: the turn's reply, or without one the request.
local function parent_json(turn)
  local human, bot = positions(turn)
  if not human and not bot then
    return 'null'
  end
  local _, _, request = branch(turn)
  return '"' .. (bot and id_at(bot) or request or id_at(human)) .. '"'
end

-- Adds the turn of a request, which becomes the leaf; `first` is that of its message for a regeneration.
local function add_turn(request, position, parent, first)
  local _, gone_turns = trimmed()
  local turn = redis.call('RPUSH', turns, position) + gone_turns - 1
  redis.call('HSET', index, request, 'h:' .. position .. ':' .. turn)
  redis.call('HDEL', state, 'leaf')
  if first or parent ~= turn - 1 then
    redis.call('HSET', index, '^' .. turn, first and parent .. ':' .. first .. ':' .. request or parent)
    local branches = redis.call('HGET', state, 'branches')
    redis.call('HSET', state, 'branches', branches and branches .. ',' .. turn or turn)
  end
  if has_branches() then
    redis.call('HSET', index, '#' .. turn, depth(parent) + 1)
  end
end

-- The answer to a request that is stored already: its reply as JSON, or '', and its failure, or ''.
local function known_request(turn)
  touch()
  local _, bot = positions(turn)
  return {
    'known', bot and redis.call('JSON.GET', document, '.messages[' .. bot - trimmed() .. ']') or '',
    redis.call('HGET', failed, message) or ''
  }
end

-- Of pending and failed `ids` the regenerations: each, then the id of its human message.
local function regenerations(ids)
  local found = {}
  if has_branches() then
    for _, id in ipairs(ids) do
      local turn = string.match(redis.call('HGET', index, id) or '', '^h:%d+:(%d+)$')
      local human = turn and positions(tonumber(turn))
      if human and select(3, branch(turn)) then
        found[#found + 1] = id
        found[#found + 1] = id_at(human)
      end
    end
  end
  return found
end

-- For the stored messages from place `start` to before `stop`: the id, the parent as JSON, and the request if it is a
-- regeneration's reply, else ''. Empty where each has its parent: a version without branches stores messages without one.
local function lineage(start, stop)
  local found = {}
  if start >= stop then
    return found
  end
  local present = redis.call('JSON.TYPE', document, '$.messages[' .. start .. ':' .. stop .. '].parent')
  if #present == stop - start then
    return found
  end
  local gone = trimmed()
  for place = start, stop - 1 do
    local id = id_at(place + gone)
    local turn = turn_of(id)
    local parent, request = 'null', ''
    if turn and string.sub(redis.call('HGET', index, id), 1, 1) == 'h' then
      parent = parent_json((branch(turn)))
    elseif turn then
      local human, _ = positions(turn)
      request = select(3, branch(turn)) or ''
      parent = human and '"' .. id_at(human) .. '"' or 'null'
    end
    found[#found + 1] = id
    found[#found + 1] = parent
    found[#found + 1] = request
  end
  return found
end
