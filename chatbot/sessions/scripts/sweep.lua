-- Returns up to `limit` overdue sessions in three lists, and gives each a later due time. First those that are owed a
-- reply: a worker claimed them and died or postponed them, or their task was lost, as sessions that became ready later were
-- claimed before them. Then those that no worker has claimed yet: their task may only wait in a long queue, so
-- the interval between their checks doubles, from `first_wait_ms` up to `longest_wait_ms`. Last those owed a reply that an
-- earlier sweep has returned: their task is in the queue already, and a second one would only delay the others. They are
-- in the first list again at the third check, the seventh, the fifteenth, as that task may be lost too.
--
-- Where there are several partitions `others` says what the workers have read of the rest, for `pace_sums`; else it is ''.
-- Then the answer has this partition's figures too, whichever worker sweeps. Before the lists stands whether the outbox has
-- charges.

-- Sessions that are ready, claims, claims in a ms, and the queue delay.
local function figures()
  if others == '' then
    return {}
  end
  local claims, ms = pace_sums(now())
  local rate = ms > 0 and claims / ms or 0
  return {ready_sessions(), string.format('%.6g', claims), string.format('%.6g', rate), queue_delay()}
end

-- A mark that lasts longer than the interval is that of a process that sweeps less often.
if redis.call('PTTL', swept) > tonumber(interval_ms) then
  redis.call('DEL', swept)
end
if not redis.call('SET', swept, 1, 'NX', 'PX', interval_ms) then
  return {'swept already', figures(), 0}
end
if others ~= '' then
  -- Without sessions that wait anywhere, most partitions are not swept: see ledger.py.
  local before = string.match(redis.call('HGET', pace, 'others') or '', ':(%d+)$')
  local unswept = not before or now() - before > others_life
  redis.call('HSET', pace, 'others', others .. ':' .. now())
  if (unswept or string.match(others, '^0:')) and ready_sessions() == 0 then
    -- An idle time does not count, wherever the next message arrives.
    redis.call('HSET', pace, 'at', now())
  end
end

-- Whether the worker process is dead: its connections were closed, so that its channel has no subscriber. Without a
-- channel, and while Redis was away so lately that workers may not have subscribed again (`settled`), only the lease's
-- expiry shows that.
local subscribers = {}
local function dead(owner)
  if owner == '' or settled == '0' then
    return false
  end
  subscribers[owner] = subscribers[owner] or redis.call('PUBSUB', 'NUMSUB', owner)[2]
  return subscribers[owner] == 0
end

local time, owed, unclaimed, queued = now(), {}, {}, {}
-- A session that became ready so many ms before one that was claimed has been passed over: tasks are claimed in order.
local passed_over = 1000
local claimed = tonumber(redis.call('HGET', pace, 'ready') or 0) - passed_over
-- The due time of a session with a lease is the lease's expiry: those of dead workers lie in the future.
local horizon = time + lease_ms + grace_ms
local entries = redis.call('ZRANGEBYSCORE', ledger, '-inf', horizon, 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #entries, 2 do
  local due = tonumber(entries[i + 1]) <= time
  select_session(entries[i])
  local readable = pcall(function()
    local owner = redis.call('GET', lease)
    if not exists() or redis.call('LLEN', pending) == 0 then
      forget(session)
    elseif owner and not dead(owner) then
      if due then
        redis.call('ZADD', ledger, time + redis.call('PTTL', lease) + grace_ms, session)
      end
    elseif due or owner then
      if owner then
        release_lease(true)
        redis.call('ZADD', waiting, time, session)
      end
      local wait = tonumber(first_wait_ms)
      local stored = redis.call('HMGET', state, 'owed', 'hold')
      local ready = tonumber(redis.call('ZSCORE', waiting, session) or time)
      if owner or stored[1] or stored[2] or ready < claimed then
        local checks, power = redis.call('HINCRBY', state, 'sent', 1), 1
        while power < checks do
          power = 2 * power + 1
        end
        local list = power == checks and owed or queued
        list[#list + 1] = session
      else
        local checks = redis.call('HINCRBY', state, 'looks', 1)
        wait = math.min(wait * 2 ^ (checks - 1), longest_wait_ms)
        unclaimed[#unclaimed + 1] = session
      end
      expire_with_session(state)
      redis.call('ZADD', ledger, time + wait, session)
    end
  end)
  if not readable and due then
    -- A key has a wrong type: the worker that claims the session reports that.
    redis.call('ZADD', ledger, time + first_wait_ms, session)
    unclaimed[#unclaimed + 1] = session
  end
end

-- A session that expired while it was ready would count in the queue delay until its due time.
for _, id in ipairs(redis.call('ZRANGE', waiting, 0, 99)) do
  select_session(id)
  if not exists() then
    redis.call('ZREM', waiting, session)
  end
end
return {'swept', figures(), redis.call('EXISTS', outbox), owed, unclaimed, queued}
