-- renew: gives a lease its full length again, also one whose lock has lapsed, unless another
-- attempt has the key. The record then lives at least its retention beyond the end of the lease.
--
-- KEYS[1] record
-- KEYS[2] lock, left out while its slot migrates: the caller has extended it in a step of its own
-- KEYS[3] due index, left out when the key is not recoverable
-- KEYS[4] dead letters, only if the key is a dead letter, which is never due
-- ARGV[1] token   ARGV[2] fence   ARGV[3] lease in milliseconds   ARGV[4] retention in milliseconds
-- ARGV[5] with KEYS[3] and without KEYS[4]: how long a completer waits after the lease has lapsed,
--         in milliseconds. It doubles with each attempt, as in the claim
-- ARGV[6] with ARGV[5]: how long it is until the flow's deadline, in milliseconds: a completer
--         looks at the key by then. It may be left out
--
-- Replies
--   OK      token
--   LOST    token: the record does not name this attempt or is gone, or the lock is another's; then
--           '1' if the key was canceled
--   DAMAGED token; what is wrong: the server did not read the record
--
-- Safe to repeat: yes.
-- redis.call: 4 (HGET, GET, PEXPIRE or SET, PEXPIRE); 3 more with KEYS[3] (TIME, ZADD, PEXPIRE), 4
-- with KEYS[4] (also PTTL); 2 less without KEYS[2]; 3 for LOST
-- (HGET, HDEL, HGET). While the lock exists, full memory can refuse
-- ZADD only, and the lease is renewed nevertheless.
local token = ARGV[1]

-- Changes nothing, but a server that is not a master any more refuses it. The record of such a
-- server may be old, and must not decide a refusal.
local function master()
  redis.call('HDEL', KEYS[1], '')
end

local control = redis.pcall('HGET', KEYS[1], 'control')
if type(control) ~= 'string' then
  if not control then
    master()
  elseif not string.find(control.err, '^WRONGTYPE') then
    return 'DAMAGED ' .. token .. '\n\n' .. control.err
  end
  return 'LOST ' .. token
end
local owner, fence, stage = string.match(control, '^2 %d+ (%S+) (%d+) (%d+) ')
if owner ~= token or fence ~= ARGV[2] then
  master()
  return 'LOST ' .. token .. (redis.call('HGET', KEYS[1], 'canceled') and ' 1' or '')
end
if KEYS[2] then
  local holder = redis.call('GET', KEYS[2])
  if holder == token then
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
  elseif not holder then
    redis.call('SET', KEYS[2], token, 'PX', ARGV[3])
  else
    master()
    return 'LOST ' .. token
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3] + ARGV[4], 'GT')
if KEYS[3] then
  local time = redis.call('TIME')
  local lapse = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
  -- Each index lives as long as the last of its records.
  if KEYS[4] then
    local life = redis.call('PTTL', KEYS[1]) -- a dead letter may live longer than its retention
    redis.pcall('ZADD', KEYS[4], 'XX', 'GT', string.format('%.0f', lapse - ARGV[3] + life), string.sub(KEYS[1], -32))
    redis.call('PEXPIRE', KEYS[4], life, 'GT')
  else
    -- The index is a hint: if full memory refuses this, a completer comes too early and finds the
    -- key locked.
    local due = lapse + math.min(ARGV[5] * 2 ^ math.min(stage - 1, 6), ARGV[4] / 2)
    if ARGV[6] then
      due = math.min(due, math.max(lapse, lapse - ARGV[3] + ARGV[6]))
    end
    redis.pcall('ZADD', KEYS[3], 'XX', string.format('%.0f', due), string.sub(KEYS[1], -32))
    redis.call('PEXPIRE', KEYS[3], ARGV[3] + ARGV[4], 'GT')
  end
end
return 'OK ' .. token
