-- Goes before every script that works on one session: the names of its keys, and what the scripts share.
-- KEYS are always the same nine, in the order of store.py.

local document, index, turns, pending = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local failed, state, partial, lease, ledger = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- All keys of a session live and end together.
local function touch(ttl)
  for i = 1, 7 do
    redis.call('PEXPIRE', KEYS[i], ttl)
  end
end

local function exists()
  return redis.call('EXISTS', document) == 1
end

-- Nobody needs to be woken when a worker holds the session, or when a retry is set for later: both look again.
local function attended()
  return redis.call('EXISTS', lease) == 1 or tonumber(redis.call('HGET', state, 'hold') or 0) > now()
end

-- Whoever claimed last may write, and nobody else, however late his writes arrive.
local function owns(fence)
  return redis.call('HGET', state, 'fence') == fence
end

-- `channel` is one that the owner listens to for as long as its process lives: see sweep.lua.
local function hold_lease(session, lease_ms, grace_ms, channel)
  redis.call('SET', lease, channel, 'PX', lease_ms)
  redis.call('ZADD', ledger, now() + lease_ms + grace_ms, session)
end

-- The fence moves on, so that writes still on their way from the owner count no more.
local function let_go()
  redis.call('HINCRBY', state, 'fence', 1)
  redis.call('DEL', lease)
end

-- An event, numbered; `length` is the log's once the event's message is in it, if it has one. See events.py.
local function publish(channel, frame, length)
  local number = redis.call('HINCRBY', state, 'events', 1)
  redis.call('PUBLISH', channel, number .. ':' .. (length or '') .. '\n' .. frame)
end

-- The message and up to `limit` - 1 messages before it, in the order of the conversation: each human message
-- with its reply behind it, whenever that was stored. Never a later message.
local function prompt(message, limit)
  local seq, turn = string.match(redis.call('HGET', index, message), '^h:(%d+):(%d+)$')
  turn = tonumber(turn)
  local positions = {}
  if turn > 0 then
    for _, entry in ipairs(redis.call('LRANGE', turns, math.max(turn - limit, 0), turn - 1)) do
      local human, bot = string.match(entry, '^(%d+):?(%d*)$')
      positions[#positions + 1] = human
      if bot ~= '' then
        positions[#positions + 1] = bot
      end
    end
  end
  positions[#positions + 1] = seq
  local messages = {}
  for i = math.max(1, #positions - limit + 1), #positions do
    messages[#messages + 1] = redis.call('JSON.GET', document, '.messages[' .. positions[i] .. ']')
  end
  return messages
end

-- What the owner of the lease is to do: {'message', fence, id, attempts, loading since, stop?, messages...}
local function assignment(message, limit)
  local fields = redis.call('HMGET', state, 'fence', 'attempts', 'loading', 'stop')
  local result = {
    'message', fields[1], message, tonumber(fields[2] or 0), tonumber(fields[3] or 0),
    fields[4] == message and 1 or 0, now()
  }
  for _, json in ipairs(prompt(message, limit)) do
    result[#result + 1] = json
  end
  return result
end

-- After a message is settled: the next one that is unanswered, or, in the same step, the lease let go.
local function settle(message, session, lease_ms, grace_ms, limit, go_on, channel)
  redis.call('LPOP', pending)
  redis.call('DEL', partial)
  redis.call('HDEL', state, 'attempts', 'hold', 'loading', 'stop')
  local following = redis.call('LINDEX', pending, 0)
  if not following then
    let_go()
    redis.call('ZREM', ledger, session)
    return {'idle'}
  end
  if go_on ~= '1' then
    let_go()
    redis.call('ZADD', ledger, now(), session)
    return {'released'}
  end
  hold_lease(session, lease_ms, grace_ms, channel)
  return assignment(following, limit)
end
