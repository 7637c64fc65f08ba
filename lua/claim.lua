-- claim: gives the lease on a record to one attempt. It runs right behind redislock's obtain script, in the same
-- pipeline: the lock decides who may claim, the record's token and fence decide who may commit.
--
-- KEYS[1] record   KEYS[2] lock
-- ARGV[1] token of this attempt
-- ARGV[2] the revision the caller has seen, '' for any
-- ARGV[3] fingerprint of the request, '' to leave it unchecked
-- ARGV[4] lease in milliseconds
-- ARGV[5] retention in milliseconds
-- ARGV[6] '1': the caller waits for replicas, so a reply about an older write must be a write too
-- ARGV[7...] field, value, ... of the record to create when there is none; left out: an absent record is GONE
--
-- Replies
--   OWN      token, fence, attempts, attempts of this revision, server time of the claim in microseconds, then the
--            record as field, value, ... when ARGV[2] is '' and the record was there before
--   BUSY     token, remaining time of the lock in milliseconds
--   DONE     token, then the record: it is finished
--   MOVED    token, then the record: its revision is another one
--   STALE    token: this attempt has ended already, this is a late duplicate
--   MISMATCH token
--   GONE     token
--   DAMAGED  token, what is wrong
-- Every reply but OWN and BUSY gives the lock back, unless the record says that the lease is this token's.
--
-- Safe to repeat: yes. The same token gets the same fence, and no attempt is counted twice.
-- redis.call: 6 for an existing record (HMGET, GET, TIME, HSET, PEXPIRE; HGETALL with ARGV[2] ''), 7 when it creates
-- (HMGET, EXISTS, GET, TIME, HSET, PEXPIRE), 4 for DONE and MOVED (HMGET, HGETALL, GET, DEL), 3 for BUSY.
local token, expected, fingerprint = ARGV[1], ARGV[2], ARGV[3]
local lease, retention = ARGV[4], ARGV[5]

local r = redis.pcall('HMGET', KEYS[1], 'v', 'fingerprint', 'recovery_point', 'revision', 'token', 'fence', 'lease',
  'spent', 'attempts', 'stage_attempts', 'locked_at')

-- Gives the lock back, if it is this token's and the record does not say that the lease is, too.
local function free()
  if r[5] ~= token and redis.call('GET', KEYS[2]) == token then
    redis.call('DEL', KEYS[2])
  end
end

local function touch()
  if ARGV[6] == '1' then
    redis.call('PEXPIREAT', KEYS[1], redis.call('PEXPIRETIME', KEYS[1]))
  end
end

local damage
local exists = true
if r.err then
  damage = r.err
elseif not r[1] then
  exists = redis.call('EXISTS', KEYS[1]) == 1
  if exists then
    damage = 'the hash has no schema version'
  end
elseif r[1] ~= '1' then
  damage = 'unknown schema version'
elseif not r[2] or not r[3] then
  damage = 'a field is missing'
elseif not r[4] or not string.find(r[4], '^%d+$') then
  damage = 'revision is not a number'
elseif r[6] and not string.find(r[6], '^%d+$') then
  damage = 'fence is not a number'
elseif not string.find(r[7] or '0', '^%d+$') or not string.find(r[9] or '0', '^%d+$')
    or not string.find(r[10] or '0', '^%d+$') then
  damage = 'a counter is not a number'
end
if damage then
  free()
  return {'DAMAGED', token, damage}
end

if exists then
  if fingerprint ~= '' and r[2] ~= fingerprint then
    free()
    return {'MISMATCH', token}
  end
  if r[3] == 'finished' then
    free()
    touch()
    return {'DONE', token, unpack(redis.call('HGETALL', KEYS[1]))}
  end
  if r[8] == token then
    free()
    return {'STALE', token}
  end
  if expected ~= '' and r[4] ~= expected then
    free()
    return {'MOVED', token, unpack(redis.call('HGETALL', KEYS[1]))}
  end
elseif #ARGV < 7 then
  free()
  return {'GONE', token}
end

local holder = redis.call('GET', KEYS[2])
if holder ~= token then
  local left = redis.call('PTTL', KEYS[2])
  -- More is left than the holder ever asked for: the server's clock was set back. Its own lease length is the bound.
  if holder and holder == r[5] and r[7] and left > tonumber(r[7]) then
    redis.call('PEXPIRE', KEYS[2], r[7])
    left = tonumber(r[7])
  end
  if not exists then
    local time = redis.call('TIME')
    redis.call('HSET', KEYS[1], 'created_at', string.format('%.0f', time[1] * 1000000 + time[2]), unpack(ARGV, 7))
    redis.call('PEXPIRE', KEYS[1], retention)
  end
  return {'BUSY', token, tostring(left)}
end

if r[5] == token then
  touch()
  local again = {'OWN', token, r[6], r[9], r[10], r[11]}
  if expected == '' then
    return {'OWN', token, r[6], r[9], r[10], r[11], unpack(redis.call('HGETALL', KEYS[1]))}
  end
  return again
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local at = string.format('%.0f', now)
local fence = math.max((tonumber(r[6]) or 0) + 1, now)
local grant = string.format('%.0f', fence)
local attempts = string.format('%.0f', (tonumber(r[9]) or 0) + 1)
local stage = string.format('%.0f', (tonumber(r[10]) or 0) + 1)
if exists then
  redis.call('HSET', KEYS[1], 'token', token, 'fence', grant, 'lease', lease, 'attempts', attempts,
    'stage_attempts', stage, 'locked_at', at)
  -- GT: a claim never shortens what is kept.
  redis.call('PEXPIRE', KEYS[1], lease + retention, 'GT')
  if expected == '' then
    return {'OWN', token, grant, attempts, stage, at, unpack(redis.call('HGETALL', KEYS[1]))}
  end
else
  redis.call('HSET', KEYS[1], 'token', token, 'fence', grant, 'lease', lease, 'attempts', attempts,
    'stage_attempts', stage, 'locked_at', at, 'created_at', at, unpack(ARGV, 7))
  redis.call('PEXPIRE', KEYS[1], lease + retention)
end
return {'OWN', token, grant, attempts, stage, at}
