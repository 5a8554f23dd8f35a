-- The line of sessions that are ready for a worker, and how much of it one address may take.

-- With 8, a single address gets eight ninths of the line's free part, and a newcomer always finds room. (Dynamic
-- thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking, 1998.)
local address_share = 8
-- A newcomer gets in beyond the line's length, up to this many times.
local newcomer_excess = 1.2
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

-- The expected wait for a worker in ms, nil while the workers' pace is unknown; and whether that is more than
-- `max_wait_ms` allows, with the ms to name then. The surplus is taken from the addresses with most sessions in line.
-- `several`: other partitions count too. The last of KEYS is the line of the message's address.
local function expected_wait(several)
  local time, line, allowed = now(), ready_sessions(), tonumber(max_wait_ms)
  if line == 0 and not several then
    redis.call('HSET', pace, 'at', time)
    return 0, false
  end
  local claims, ms, others, other_claims, other_rate, other_delay = pace_sums(time)
  line = line + others
  if line == 0 then
    redis.call('HSET', pace, 'at', time)
    return 0, false
  end
  if claims + other_claims < 1 then
    -- Also when the workers stand still.
    local delay = math.max(queue_delay(), other_delay)
    return nil, allowed > 0 and delay > allowed, delay
  end
  local pace_now = (ms > 0 and claims / ms or 0) + other_rate
  local wait, length = line / pace_now, allowed * pace_now
  if several then
    redis.call('ZREMRANGEBYSCORE', KEYS[#KEYS], '-inf', time - math.max(queue_delay(), other_delay) - line_excess)
  end
  local own = redis.call('ZCARD', KEYS[#KEYS])
  local room = own < address_share * (length - line) or own == 0 and line < newcomer_excess * length
  return wait, allowed > 0 and not room, wait
end

-- The session enters the line of its address; whether it was not in there.
local function enter_line(time)
  local line = KEYS[#KEYS]
  local new = redis.call('ZADD', line, 'NX', time, session) == 1
  redis.call('ZREMRANGEBYSCORE', line, '-inf', time - longest_line)
  redis.call('PEXPIRE', line, longest_line)
  return new
end
