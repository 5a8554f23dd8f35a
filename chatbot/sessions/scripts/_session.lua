-- Stands before every script, behind locals with its keys and arguments. These functions read the arguments of the
-- script that calls them by name: `session`, `ttl_ms`, ... See store/script_texts.py.
--
-- The fields of `state`, times in epoch milliseconds. Of the session: `fence` (of the latest claim), `events` (number of the
-- last one), `ends` (its latest end), `line` (key of its address's line), `trace:<request>`, `stop:<request>` (see
-- _stop.lua). Of the request that is due next:
-- `attempts` (failed ones), `attempt` (span of the latest), `loading` (when the model began to load), `hold` (when a retry is
-- due), `stop` (its id if its reply is stopped), `generated` (tokens of `partial`), `owed` (1 once it was claimed),
-- `looks` and `sent` (checks by sweeps: before a claim, and since). Of the log: `trimmed` and `trimmed_turns` (dropped from
-- its start), `bytes` and `counted` (its size up to a position); of the tree `branches` and `leaf`, see _tree.lua, and
-- `selected` (number of the last event that selected a path).

-- In epoch milliseconds; the same throughout a script.
local time_of_call
local function now()
  if not time_of_call then
    local time = redis.call('TIME')
    time_of_call = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return time_of_call
end

local function exists()
  return redis.call('EXISTS', document) == 1
end

-- For a key that a script may have made anew. At least 1 ms: with 0 it would be gone before the script reads it.
local function expire_with_session(key)
  redis.call('PEXPIRE', key, math.max(redis.call('PTTL', document), 1))
end

-- All keys of a session expire together, but for the lease, and no later than the session may live.
local function touch()
  local ends, left = redis.call('HGET', state, 'ends'), ttl_ms
  if ends then
    left = math.max(math.min(left, ends - now()), 1)
  end
  for _, key in ipairs(KEYS) do
    if key == lease then
      return
    end
    redis.call('PEXPIRE', key, left)
  end
end

-- Whether no worker is needed: one holds the lease, or a retry is scheduled.
local function attended()
  return redis.call('EXISTS', lease) == 1 or tonumber(redis.call('HGET', state, 'hold') or 0) > now()
end

-- Only the latest claim may write, however late the writes of an earlier one arrive.
local function owns_lease()
  return redis.call('HGET', state, 'fence') == fence and exists()
end

-- Stands before the partial reasoning and the partial calls. A version without them leaves those of an earlier claim
-- stored: readers ignore what has another header.
local function claim_header()
  return (redis.call('HGET', state, 'fence') or '') .. ':'
end

-- What `key` holds behind `header`, '' for another one.
local function behind_header(key, header)
  local text = redis.call('GET', key)
  return text and string.sub(text, 1, #header) == header and string.sub(text, #header + 1) or ''
end

-- Has what was stored under the fence `before` count under the present one. Returns it.
local function carry_over(key, before)
  local text = behind_header(key, before .. ':')
  if text ~= '' then
    redis.call('SET', key, claim_header() .. text, 'KEEPTTL')
  end
  return text
end

-- Ends the thinking of an attempt, and the text behind it, as no model can go on from there; unless they stay, as events
-- were sent with them. Returns whether the text was dropped.
local function drop_thoughts(stay)
  return not stay and redis.call('DEL', partial_reasoning) == 1 and redis.call('DEL', partial) == 1
end

-- Why a write is rejected.
local function rejection()
  return exists() and 'lost' or 'ended'
end

local function schedule(due, ready)
  redis.call('ZADD', ledger, due, session)
  redis.call('ZADD', waiting, ready, session)
end

-- Should the worker die, the session becomes ready for another one when the lease expires.
local function hold_lease()
  local expiry = now() + lease_ms
  redis.call('SET', lease, owner, 'PX', lease_ms)
  schedule(expiry + grace_ms, expiry)
end

-- With a new fence number, so that writes still on their way from the worker are rejected. Where an attempt has
-- ended without a reply (`attempted`), its reasoning and calls go to the next one.
local function release_lease(attempted)
  local before = attempted and redis.call('HGET', state, 'fence')
  redis.call('HINCRBY', state, 'fence', 1)
  redis.call('DEL', lease)
  if before then
    carry_over(partial_reasoning, before)
    carry_over(partial_calls, before)
  end
end

local function forget(session)
  redis.call('ZREM', ledger, session)
  redis.call('ZREM', waiting, session)
end

-- Publishes a numbered event and returns its number. `length` is that of the log with the event's message, if it has one;
-- `trace` is the trace of its delivery, or ''. See events.py.
local function publish(frame, length, trace)
  local number = redis.call('HINCRBY', state, 'events', 1)
  publish_event(events, number .. ':' .. (length or '') .. ((trace or '') ~= '' and ':' .. trace or '') .. '\n' .. frame)
  return number
end

-- A request with an API key has its reply, has failed or was cancelled: moves its charge into the outbox, with what it used
-- as `protocol/charges.py` writes it. Other requests have no charge.
local function settle_charge(message, used)
  local charge = redis.call('HGET', charges, message)
  if charge then
    redis.call('HDEL', charges, message)
    redis.call('HSET', outbox, charge, used)
  end
end
