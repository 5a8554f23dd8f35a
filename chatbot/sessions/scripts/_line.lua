-- The line of sessions that are ready for a worker, and how much of it one address may take.

-- With 8, a single address gets eight ninths of the line's free part, and a newcomer always finds room. (Dynamic
-- thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking, 1998.)
local address_share = 8
-- A newcomer gets in beyond the line's length, up to this many times.
local newcomer_excess = 1.2
-- The part of the line's length up to which every address has room, whatever it has in line: its sessions are not counted
-- where another partition has the address's line. So it may take this part besides its share, once.
local short_line = 0.5
-- ms after which a session leaves its address's line at the latest, should its worker's claim be lost.
local longest_line = 600000
-- The same beyond the queue delay where the claim cannot remove it, as it is in another partition. The line is first in,
-- first out: what entered longer ago than the queue delay was claimed.
local line_excess = 1000

-- In ms, over the sessions of this partition.
local function queue_delay()
  local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
  return first[2] and math.max(now() - first[2], 0) or 0
end

-- Returns the sessions in line; how many may be, nil while the workers' pace is unknown; and the sessions claimed in a ms.
-- Where there is a line, returns the queue delay too: that of this partition counts only with `several`, or while the pace
-- is unknown. `several`: other partitions count too.
local function line_length(several)
  local time, line = now(), ready_sessions()
  if line == 0 and not several then
    redis.call('HSET', pace, 'at', time)
    return 0, 0
  end
  local claims, ms, others, other_claims, other_rate, other_delay = pace_sums(time)
  line = line + others
  if line == 0 then
    redis.call('HSET', pace, 'at', time)
    return 0, 0
  end
  if claims + other_claims < 1 then
    -- Also when the workers stand still.
    return line, nil, 0, math.max(queue_delay(), other_delay)
  end
  local pace_now = (ms > 0 and claims / ms or 0) + other_rate
  return line, max_wait_ms * pace_now, pace_now, several and math.max(queue_delay(), other_delay) or 0
end

-- The expected wait for a worker in ms, nil while the workers' pace is unknown; and whether that is more than
-- `max_wait_ms` allows, with the ms to name then. The surplus is taken from the addresses with most sessions in line.
-- The last of KEYS is the line of the message's address.
local function expected_wait(several)
  local line, length, pace_now, delay = line_length(several)
  local allowed = tonumber(max_wait_ms)
  if line == 0 then
    return 0, false
  elseif not length then
    return nil, allowed > 0 and delay > allowed, delay
  end
  local wait = line / pace_now
  if several then
    redis.call('ZREMRANGEBYSCORE', KEYS[#KEYS], '-inf', now() - delay - line_excess)
  end
  local own = redis.call('ZCARD', KEYS[#KEYS])
  local room = own < address_share * (length - line) or own == 0 and line < newcomer_excess * length
  return wait, allowed > 0 and not room, wait
end

-- The expected wait in ms, 0 while it is unknown; nil where the answer depends on how many sessions of the message's
-- address are in line, which another partition knows.
local function short_wait()
  local line, length, pace_now, delay = line_length(true)
  local allowed = tonumber(max_wait_ms)
  if line == 0 then
    return 0
  elseif not length then
    return (allowed == 0 or delay <= allowed) and 0 or nil
  end
  return (allowed == 0 or line < short_line * length) and line / pace_now or nil
end

-- The session enters the line of its address; whether it was not in there.
local function enter_line(time)
  local line = KEYS[#KEYS]
  local new = redis.call('ZADD', line, 'NX', time, session) == 1
  redis.call('ZREMRANGEBYSCORE', line, '-inf', time - longest_line)
  redis.call('PEXPIRE', line, longest_line)
  return new
end
