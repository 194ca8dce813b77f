"""What the shared server runs for us, each script as one step. Its clock is everybody's; times are in microseconds.

A window is a list of the times at which calls went, and a counter for windows that note only every few calls, as
`limits.Window` does. Three arguments for each: how many times it holds, its length, and how many calls one time stands for.
"""

from __future__ import annotations

from typing import Final

_NOW: Final = """
local clock = redis.call('TIME')
local stamp = clock[1] .. string.format('%06d', clock[2])
local now = tonumber(stamp)
"""

# Counts a call in all windows and returns 0, or counts nothing and returns after which time to ask again. A time beyond
# the window's end means that the clock was set back: such a window begins anew.
TAKE: Final = f"""{_NOW}
local wait = 0
for w = 0, #KEYS / 2 - 1 do
  local times, slots, span = KEYS[2 * w + 1], tonumber(ARGV[3 * w + 1]), tonumber(ARGV[3 * w + 2])
  if redis.call('LLEN', times) >= slots then
    local left = tonumber(redis.call('LINDEX', times, 0)) + span - now
    if left > span then
      redis.call('DEL', times, KEYS[2 * w + 2])
    elseif left > wait then
      wait = left
    end
  end
end
if wait > 0 then return wait end
for w = 0, #KEYS / 2 - 1 do
  local times, counter, slots = KEYS[2 * w + 1], KEYS[2 * w + 2], tonumber(ARGV[3 * w + 1])
  local step, keep = tonumber(ARGV[3 * w + 3]), math.ceil(tonumber(ARGV[3 * w + 2]) / 1000) + 1000
  local nth = 1
  if step > 1 then
    nth = redis.call('INCR', counter) % step
    redis.call('PEXPIRE', counter, keep)
  end
  if nth == 1 then
    redis.call('RPUSH', times, stamp)
    redis.call('LTRIM', times, -slots, -1)
  end
  redis.call('PEXPIRE', times, keep)
end
return 0
"""

# Returns how many calls are in each window, to the step.
USED: Final = f"""{_NOW}
local used = {{}}
for w = 0, #KEYS / 2 - 1 do
  local span, step, count = tonumber(ARGV[3 * w + 2]), tonumber(ARGV[3 * w + 3]), 0
  for _, time in ipairs(redis.call('LRANGE', KEYS[2 * w + 1], 0, -1)) do
    if tonumber(time) + span > now then count = count + step end
  end
  used[w + 1] = count
end
return used
"""

# A sorted set of what is paused, by the end of the pause; and the news of it. ARGV: what, for how long, channel, news.
PAUSE: Final = f"""{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local ends = now + tonumber(ARGV[2])
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not known or tonumber(known) < ends then redis.call('ZADD', KEYS[1], ends, ARGV[1]) end
redis.call('PEXPIRE', KEYS[1], 86400000)
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 0
"""

# Returns what is paused and for how long still, one after the other; at most ARGV[1] of them.
PAUSED: Final = f"""{_NOW}
local found = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1])
for i = 2, #found, 2 do found[i] = math.ceil(tonumber(found[i]) - now) end
return found
"""

TELL: Final = "return redis.call('PUBLISH', ARGV[1], ARGV[2])"
