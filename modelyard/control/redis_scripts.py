"""What Redis runs, each in one go: nothing comes between looking at limits and counting in them.

A window is a hash of slot number to amount. A budget is a hash of `spent` and `reserved`, in billionths of a USD, and of the reservations
that lapsed into spent; and a sorted set of its reservations, `<permit>:<amount>` by when they lapse. Numbers stay below 2^53, where Lua's
doubles are exact. The server's own clock counts, unless a test gives one. `modelyard.control.windows` and `modelyard.control.budgets` say
what the numbers mean, and count alike.
"""

from __future__ import annotations

from typing import Final

from modelyard.control.windows import SLOT_S, SLOTS, WINDOW_S

_SHARED: Final = f"""
local SLOT_S, SLOTS, WINDOW_S = {SLOT_S}, {SLOTS}, {WINDOW_S}

local function clock(given)
  if given ~= '' then return tonumber(given) end
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

local function whole(number)  -- tostring() would write 1e+15
  return string.format('%.0f', number)
end

local function less(text)  -- '-' .. '0' is no number to Redis
  return whole(0 - tonumber(text))
end

local function lapse(budget, holds, now)
  for _, hold in ipairs(redis.call('ZRANGEBYSCORE', holds, '-inf', whole(now))) do
    local permit, amount = string.match(hold, '^(%d+):(%d+)$')
    redis.call('HINCRBY', budget, 'reserved', less(amount))
    redis.call('HINCRBY', budget, 'spent', amount)
    redis.call('HSET', budget, 'lapsed:' .. permit, amount)
    redis.call('ZREM', holds, hold)
  end
end
"""

# KEYS: for each line its window, or its budget and the budget's reservations.
# ARGV: clock, permit, seconds until a reservation lapses; for each line: 'w' or 'b', limit, the amount, and the least amount that will do
# (windows) or the seconds that the keys live (budgets).
# Returns {'ok', slot, taken} or {'no', what}, for each line: what it took, or seconds, '0' (fits), 'never', 'spent', 'held', 'unseeded'.
ADMIT: Final = (
    _SHARED
    + """
local function window_wait(window, limit, amount, slot, now)
  local slots, total = {}, 0
  local all = redis.call('HGETALL', window)
  for i = 1, #all, 2 do
    local number = tonumber(all[i])
    if number <= slot - SLOTS then
      redis.call('HDEL', window, all[i])
    else
      slots[#slots + 1] = {number, tonumber(all[i + 1])}
      total = total + tonumber(all[i + 1])
    end
  end
  local excess = total + amount - limit
  if excess <= 0 then return '0', limit - total end
  if amount > limit then return 'never' end
  table.sort(slots, function(a, b) return a[1] < b[1] end)
  for _, held in ipairs(slots) do
    excess = excess - held[2]
    if excess <= 0 then return string.format('%.3f', math.max((held[1] + SLOTS) * SLOT_S - now, 0.001)) end
  end
  return whole(WINDOW_S + SLOT_S)
end

local function budget_wait(budget, holds, limit, amount, now)
  lapse(budget, holds, now)
  local found = redis.call('HMGET', budget, 'spent', 'reserved')
  if not found[1] then return 'unseeded' end
  local spent, reserved = tonumber(found[1]), tonumber(found[2] or '0')
  if spent + reserved + amount <= limit then return '0' end
  if amount > limit then return 'never' end
  if spent + amount > limit then return 'spent' end
  return 'held'
end

local now, permit, until_s = clock(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local slot = math.floor(now / SLOT_S)
local waits, taken, fits, again, key = {}, {}, true, false, 1
for i = 4, #ARGV, 4 do
  local limit, amount = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local wait
  if ARGV[i] == 'w' then
    local least, left = tonumber(ARGV[i + 3]), nil
    wait, left = window_wait(KEYS[key], limit, least, slot, now)
    taken[#taken + 1] = whole(math.max(least, math.min(amount, left or 0)))
    key = key + 1
  else
    again = again or redis.call('ZSCORE', KEYS[key + 1], permit .. ':' .. ARGV[i + 2])
    taken[#taken + 1] = ARGV[i + 2]
    wait = budget_wait(KEYS[key], KEYS[key + 1], limit, amount, now)
    key = key + 2
  end
  if wait ~= '0' then fits = false end
  waits[#waits + 1] = wait
end
if again then  -- what windows gave the first time is not known any more, but it was no less than this
  for i = 4, #ARGV, 4 do
    if ARGV[i] == 'w' then taken[(i - 4) / 4 + 1] = ARGV[i + 3] end
  end
  return {'ok', whole(slot), unpack(taken)}
end
if not fits then return {'no', unpack(waits)} end

key = 1
for i = 4, #ARGV, 4 do
  if ARGV[i] == 'w' then
    redis.call('HINCRBY', KEYS[key], whole(slot), taken[(i - 4) / 4 + 1])
    redis.call('EXPIRE', KEYS[key], WINDOW_S + 2 * SLOT_S)
    key = key + 1
  else
    redis.call('HINCRBY', KEYS[key], 'reserved', ARGV[i + 2])
    redis.call('ZADD', KEYS[key + 1], whole(now + until_s), permit .. ':' .. ARGV[i + 2])
    redis.call('EXPIRE', KEYS[key + 1], ARGV[i + 3])
    key = key + 2
  end
end
return {'ok', whole(slot), unpack(taken)}
"""
)

# KEYS: as above, without the windows of requests. ARGV: clock, permit, '1' for the first try; for each line: 'w' or 'b', reserved, actual,
# slot. Returns what each budget has spent now, or ''. A reservation that lapsed is corrected; one that Redis lost is added, if its budget
# was begun anew since. At a second try there may be nothing left to do.
SETTLE: Final = (
    _SHARED
    + """
local now, permit, first = clock(ARGV[1]), ARGV[2], ARGV[3] == '1'
local slot = math.floor(now / SLOT_S)
local spent, key = {}, 1
for i = 4, #ARGV, 4 do
  local reserved, actual = ARGV[i + 1], ARGV[i + 2]
  if ARGV[i] == 'w' then
    local more = tonumber(actual) - tonumber(reserved)
    if more > 0 then
      redis.call('HINCRBY', KEYS[key], whole(slot), whole(more))
      redis.call('EXPIRE', KEYS[key], WINDOW_S + 2 * SLOT_S)
    elseif redis.call('HEXISTS', KEYS[key], ARGV[i + 3]) == 1 then
      redis.call('HINCRBY', KEYS[key], ARGV[i + 3], whole(more))
    end
    key = key + 1
  else
    local budget, holds = KEYS[key], KEYS[key + 1]
    local lapsed = redis.call('HGET', budget, 'lapsed:' .. permit)
    if lapsed then
      redis.call('HDEL', budget, 'lapsed:' .. permit)
      redis.call('HINCRBY', budget, 'spent', whole(tonumber(actual) - tonumber(lapsed)))
    elseif redis.call('ZREM', holds, permit .. ':' .. reserved) == 1 then
      redis.call('HINCRBY', budget, 'reserved', less(reserved))
      redis.call('HINCRBY', budget, 'spent', actual)
    elseif first and redis.call('EXISTS', budget) == 1 then
      redis.call('HINCRBY', budget, 'spent', actual)
    end
    spent[#spent + 1] = redis.call('HGET', budget, 'spent') or ''
    key = key + 2
  end
end
return spent
"""
)

# KEYS: budget. ARGV: what was spent at least, seconds that the budget lives.
SEED: Final = """
local spent = redis.call('HGET', KEYS[1], 'spent')
if not spent or tonumber(spent) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'spent', ARGV[1]) end
redis.call('HSETNX', KEYS[1], 'reserved', '0')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""
