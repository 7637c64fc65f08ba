-- claim: gives the lease on a record to one attempt. It runs right behind the command that takes redislock's lock, in the same
-- pipeline: the lock decides who may claim, the record's token and fence decide who may commit.
--
-- KEYS[1] record   KEYS[2] lock, left out while the slot is split: the caller has taken it, or has not, and says so by ARGV[9]
-- KEYS[3] due index of the flow, left out when its keys are not recoverable
-- KEYS[4] dead letters, when the key is said to be one; left out otherwise
-- ARGV[1] token of this attempt
-- ARGV[2] the revision the caller has seen, a space, and when that record was created: it may have been deleted and made again
--         since; '' for any
-- ARGV[3] fingerprint of the request, '' to leave it unchecked
-- ARGV[4] lease in milliseconds
-- ARGV[5] how long the record lives from now on, in milliseconds: lease and retention
-- ARGV[6] flags: 'd', the caller waits for replicas, so a reply about an older write must be a write too;
--         'l', it wants to know how long a finished record still lives; 'p', it wants the params of a finished record;
--         'c', it is a completer: what turns out to be finished or gone leaves the due index; 'w' and a number at the end: how long
--         the caller has waited for the key already, in microseconds
-- ARGV[7] channel on which the caller wants to hear that the key is free, '' for none; with 'c' the score with which the due index
--         handed the key out, '' for any
-- ARGV[8] the flow that is to work on the key: its name/version and its recovery points, each with a line break behind it;
--         '' for none
-- ARGV[9] with KEYS[3]: how long after its lease a completer leaves the key alone, in milliseconds; without KEYS[2]: what the
--         record's control was before the caller took the lock, '-' when there was none, '' when another has the lock
-- ARGV[10] scope   ARGV[11] key   ARGV[12] method   ARGV[13] path   ARGV[14...] further field, value, ... of the record
--         to create when there is none; all left out: an absent record is GONE
--
-- Replies
--   OWN      token, fence, attempts, attempts of this revision, server time of the claim in microseconds; the record as
--            field, value, ... as it was before, when ARGV[2] is '' and it was there; of a new record made in place of a
--            tombstone also its generation; with ARGV[2] two more numbers: the record's flow, '-' for none, and '1' if it is a
--            dead letter, else '0'
--   BUSY     token, remaining time of the lock in milliseconds; without KEYS[2] 0: the lock is another's, or the record has
--            changed since ARGV[9]
--   DONE     token, remaining life of the record in milliseconds with 'l'; the record without its state, and without its params
--            unless 'p' asks for them: it is finished
--   INTERIM  token, age of the answer in microseconds; the record: it got an interim answer while the caller has waited
--   MOVED    token; the record: its revision is another one, or it is another record
--   STALE    token: this attempt has ended already, this is a late duplicate
--   MISMATCH token
--   GONE     token
--   LATER    token: somebody had the lease since the key was handed out to this completer, and it is due at another time
--   LETTER   token; the record's flow: the key is a dead letter, and the call does not have their list
--   OTHER    token; the flow that the record belongs to: another one, or another version; for a completer also '', none
--   UNKNOWN  token; the recovery point: the flow has no such
--   DAMAGED  token; what is wrong
-- With KEYS[2] every reply but OWN, BUSY and LETTER gives the lock back, unless the record says that the lease is this token's. With
-- LETTER the same token is expected to ask again.
--
-- Safe to repeat: yes. The same token gets the same fence, and no attempt is counted twice.
-- redis.call: 5 for OWN of a new record (EXISTS, GET, TIME, HSET, PEXPIRE; in place of a tombstone HMGET, too) and with ARGV[2]
-- (HMGET in place of EXISTS), 7 of one that was there (EXISTS, HMGET, HGETALL; when repeated HGET in place of TIME and HSET);
-- two more with KEYS[3], or with KEYS[4] of a dead letter (ZADD, PEXPIRE; twice when the index is new; TIME when repeated); 3
-- for LETTER (EXISTS, HMGET, GET); 5 for DONE (EXISTS, HMGET, GET, DEL, HMGET), 4 with ARGV[2]; without KEYS[2] there is no
-- GET, DEL and PTTL; one more for a completer (ZSCORE); 4 for BUSY (EXISTS, HMGET, GET, PTTL), 3 with ARGV[2], two more when
-- the caller is entered as waiting (HGET, HSET); of an unfinished record one more with 'w' (HMGET), and one more if it has an
-- interim answer (TIME); 7 for INTERIM (EXISTS, HMGET, HMGET, TIME, GET, DEL, HGETALL).
local token, expected, fingerprint = ARGV[1], ARGV[2], ARGV[3]

-- Params, state and response are read only for replies that have them.
local exists = expected ~= '' or redis.call('EXISTS', KEYS[1]) == 1
local control, printed, point, flow, created, letter, generation, damage
if exists then
  local r = redis.pcall('HMGET', KEYS[1], 'control', 'fingerprint', 'recovery_point', 'flow', 'created_at', 'dead_letter', 'generation')
  control, printed, point, flow, created, letter, generation, damage = r[1], r[2], r[3], r[4], r[5], r[6], r[7], r.err
end

local revision, owner, fence, length, attempts, stage, spent
if control then
  revision, owner, fence, stage, attempts, length, spent =
    string.match(control, '^1 (%d+) (%S+) (%d+) (%d+) (%d+) (%d+) (%S+)$')
  if string.sub(control, 1, 2) ~= '1 ' then
    damage = 'unknown schema version'
  elseif not revision then
    damage = 'control cannot be read'
  elseif not printed or not point then
    damage = 'a field is missing'
  end
elseif generation and not printed then
  exists = false -- a tombstone, which a delete has left
elseif exists and not damage then
  exists = expected == '' or redis.call('EXISTS', KEYS[1]) == 1
  damage = exists and 'the hash has no schema version'
end

local completing = string.find(ARGV[6], 'c', 1, true)

-- Gives the lock back, if it is this token's and the record does not say that the lease is, too.
local function free()
  if KEYS[2] and owner ~= token and redis.call('GET', KEYS[2]) == token then
    redis.call('DEL', KEYS[2])
  end
end

-- Server time in microseconds, as text: numbers of that size cost more to write than to join.
local function clock()
  local time = redis.call('TIME')
  return time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
end

-- The age of the record's interim answer if it is younger than the caller's waiting, also when another has the lease already.
local function interim()
  local waited = owner ~= token and string.match(ARGV[6], 'w(%d+)$')
  if waited then
    local r = redis.call('HMGET', KEYS[1], 'interim', 'j:' .. string.format('%d', revision - 1))
    local at = r[1] == '1' and string.match(r[2] or '', '^%S* %d+ %d+ (%d+) ')
    local age = at and math.max(clock() - at, 0)
    return age and age < tonumber(waited) and age
  end
end

local function touch()
  if string.find(ARGV[6], 'd', 1, true) then
    local expires = redis.call('PEXPIRETIME', KEYS[1])
    if expires > 0 then
      redis.call('PEXPIREAT', KEYS[1], expires)
    else
      redis.call('PEXPIRE', KEYS[1], ARGV[5]) -- somebody took its expiry
    end
  end
end

-- Replies with what a finished key is read for: everything but the state, and the params on request.
local function done(life)
  local names = {'scope', 'idempotency_key', 'request_method', 'request_path', 'response_code', 'response_headers', 'response_body', 'not_kept'}
  if string.find(ARGV[6], 'p', 1, true) then
    names[#names + 1] = 'request_params'
  end
  -- Compensations stay in the journal beside the commits that they undo.
  for back = math.min(revision, flow and 2049 or 64), 1, -1 do
    names[#names + 1] = 'j:' .. string.format('%d', revision - back)
  end
  local values = redis.call('HMGET', KEYS[1], unpack(names))
  local words = {'DONE ' .. token .. ' ' .. life, 'control', control, 'fingerprint', printed, 'recovery_point', point}
  local last = #words
  if created then
    words[last + 1], words[last + 2], last = 'created_at', created, last + 2
  end
  if flow then
    words[last + 1], words[last + 2], last = 'flow', flow, last + 2
  end
  for i = 1, #names do
    if values[i] then
      words[last + 1], words[last + 2], last = names[i], values[i], last + 2
    end
  end
  return words
end

-- Takes what needs no completer any more out of the due index.
local function settle()
  if KEYS[3] and completing then
    redis.call('ZREM', KEYS[3], string.sub(KEYS[1], -32))
  end
end

if damage then
  free()
  return {'DAMAGED ' .. token, damage}
end

if exists then
  if fingerprint ~= '' and printed ~= fingerprint then
    free()
    return {'MISMATCH ' .. token}
  end
  if point == 'finished' then
    free()
    settle()
    touch()
    local life = ''
    if string.find(ARGV[6], 'l', 1, true) then
      life = redis.call('PTTL', KEYS[1])
    end
    return done(life)
  end
  if spent == token then
    free()
    return {'STALE ' .. token}
  end
  local age = interim()
  if age then
    free()
    touch()
    return {'INTERIM ' .. token .. ' ' .. string.format('%.0f', age), unpack(redis.call('HGETALL', KEYS[1]))}
  end
  if expected ~= '' and revision .. ' ' .. (created or '') ~= expected then
    free()
    return {'MOVED ' .. token, unpack(redis.call('HGETALL', KEYS[1]))}
  end
  if ARGV[8] ~= '' then
    if not flow and completing then
      -- The key was deleted and used again without a flow: what the due index says is about another record.
      free()
      settle()
      return {'OTHER ' .. token, ''}
    end
    if flow and string.sub(ARGV[8], 1, #flow + 1) ~= flow .. '\n' then
      free()
      if string.match(flow, '^[^/]*') ~= string.match(ARGV[8], '^[^/]*') then
        settle() -- as above: it is in the index of its own flow
      end
      return {'OTHER ' .. token, flow}
    end
    -- The points of a flow that compensates are its own, too.
    if not string.find(ARGV[8], '\n' .. point .. '\n', 1, true) and not string.find(point, '^compensate:%d+$') then
      free()
      return {'UNKNOWN ' .. token, point}
    end
  end
  -- What was handed out may have waited for long. A late duplicate finds the score that its first copy wrote.
  if KEYS[3] and completing and ARGV[7] ~= '' and owner ~= token
    and tonumber(redis.call('ZSCORE', KEYS[3], string.sub(KEYS[1], -32)) or 0) ~= tonumber(ARGV[7]) then
    free()
    return {'LATER ' .. token}
  end
elseif #ARGV < 13 then
  free()
  settle()
  return {'GONE ' .. token}
end

-- Enters the key in the due index for when its lease has lapsed and the time for its client to come back is over, which
-- doubles with each attempt, but ends long before the record does. The index is gone when the last of its records is, also where no completer clears it.
-- A dead letter stays one until a commit carries it on, and is in their list until its record ends.
local function enter(at, attempt)
  -- To GT a key without a TTL is one that lives for ever.
  if letter and KEYS[4] then
    redis.call('ZADD', KEYS[4], 'GT', string.format('%.0f', math.floor(at / 1000) + ARGV[5]), string.sub(KEYS[1], -32))
    if redis.call('PEXPIRE', KEYS[4], ARGV[5], 'GT') == 0 then
      redis.call('PEXPIRE', KEYS[4], ARGV[5], 'NX')
    end
  elseif KEYS[3] and not letter then
    local due = math.floor(at / 1000) + ARGV[4] + math.min(ARGV[9] * 2 ^ math.min(attempt - 1, 6), (ARGV[5] - ARGV[4]) / 2)
    redis.call('ZADD', KEYS[3], string.format('%.0f', due), string.sub(KEYS[1], -32))
    if redis.call('PEXPIRE', KEYS[3], ARGV[5], 'GT') == 0 then
      redis.call('PEXPIRE', KEYS[3], ARGV[5], 'NX')
    end
  end
end

-- What a caller who has seen the record may not know of it.
local function unseen()
  return expected == '' and '' or ' ' .. (flow or '-') .. (letter and ' 1' or ' 0')
end

local holder = KEYS[2] and redis.call('GET', KEYS[2])
local mine = holder == token
if not KEYS[2] then
  -- The lock was taken in a step of its own, so nobody else had a lease then, and nobody got one between if the record is
  -- still as it was before that step.
  mine = ARGV[9] ~= '' and (owner == token or (control or '-') == ARGV[9])
end
if not mine then
  local left = KEYS[2] and redis.call('PTTL', KEYS[2]) or 0
  -- More is left than the holder ever asked for: the server's clock was set back. Its own lease length is the bound.
  if holder and holder == owner and left > tonumber(length) then
    redis.call('PEXPIRE', KEYS[2], length)
    left = tonumber(length)
  end
  if not exists then
    local at = clock()
    redis.call('HSET', KEYS[1], 'control', '1 0 - 0 0 0 0 -', 'fingerprint', fingerprint, 'recovery_point', 'started',
      'created_at', at, 'scope', ARGV[10], 'idempotency_key', ARGV[11], 'request_method', ARGV[12],
      'request_path', ARGV[13], unpack(ARGV, 14))
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
    enter(at, 1)
  end
  if ARGV[7] ~= '' and not completing then
    local waiting = redis.call('HGET', KEYS[1], 'waiting') or ''
    -- Whoever finds the list full polls, and so does whoever finds the server's memory full.
    if not string.find(waiting, ARGV[7], 1, true) and #waiting < 1024 then
      redis.pcall('HSET', KEYS[1], 'waiting', waiting .. ARGV[7] .. ' ')
    end
  end
  return {'BUSY ' .. token .. ' ' .. left}
end
if letter and flow and not KEYS[4] then
  return {'LETTER ' .. token, flow} -- its record must not be prolonged alone
end

-- The record as it was before, for a caller that has not seen it.
local all = exists and expected == '' and redis.call('HGETALL', KEYS[1]) or {}
if owner == token then
  touch()
  -- A late duplicate: the lock has its full length again, and so has the record.
  redis.call('PEXPIRE', KEYS[1], ARGV[5], 'GT')
  local at = redis.call('HGET', KEYS[1], 'locked_at') or ''
  if letter then
    enter(clock(), stage)
  end
  return {'OWN ' .. token .. ' ' .. fence .. ' ' .. attempts .. ' ' .. stage .. ' ' .. at .. unseen(),
    unpack(all)}
end

local at = clock()
local grant = at
if exists then
  -- Both are numbers without leading zeros. The fence grows even when the clock does not.
  if #fence > #at or #fence == #at and fence >= at then
    grant = string.format('%.0f', fence + 1)
  end
  attempts, stage = tostring(attempts + 1), tostring(stage + 1)
  redis.call('HSET', KEYS[1], 'locked_at', at, 'control', '1 ' .. revision .. ' ' .. token .. ' ' .. grant .. ' '
    .. stage .. ' ' .. attempts .. ' ' .. ARGV[4] .. ' ' .. spent)
  if ARGV[8] ~= '' and not flow then
    redis.call('HSET', KEYS[1], 'flow', string.match(ARGV[8], '^[^\n]*'))
  end
  -- GT: a claim never shortens what is kept.
  redis.call('PEXPIRE', KEYS[1], ARGV[5], 'GT')
  enter(at, stage)
  return {'OWN ' .. token .. ' ' .. grant .. ' ' .. attempts .. ' ' .. stage .. ' ' .. at .. unseen(),
    unpack(all)}
end
redis.call('HSET', KEYS[1], 'control', '1 0 ' .. token .. ' ' .. at .. ' 1 1 ' .. ARGV[4] .. ' -',
  'fingerprint', fingerprint, 'recovery_point', 'started', 'created_at', at, 'locked_at', at, 'scope', ARGV[10],
  'idempotency_key', ARGV[11], 'request_method', ARGV[12], 'request_path', ARGV[13], unpack(ARGV, 14))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
enter(at, 1)
-- The new record has the generation of the tombstone in whose place it is made.
local later = generation and ' ' .. string.match(generation, '^%d*') or ''
return {'OWN ' .. token .. ' ' .. grant .. ' 1 1 ' .. at .. later}
