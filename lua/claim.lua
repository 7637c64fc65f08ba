-- claim: gives the lease on a record to one attempt. It looks at the record first, and takes the
-- lock, which is one of the Go package bsm/redislock, only with the lease. The lock decides who may
-- claim; the record's token and fence decide who may commit.
--
-- KEYS[1] record
-- KEYS[2] lock, left out while its slot migrates, as all keys behind it are: ARGV[14] says whether
--         the caller has taken it
-- KEYS[3] due index of the flow, left out when its keys are not recoverable
-- KEYS[4] dead letters, when the key is known to be one; left out otherwise
-- ARGV[1] token of this attempt
-- ARGV[2] fingerprint of the request, '' to leave it unchecked
-- ARGV[3] lease in milliseconds
-- ARGV[4] how long the record lives from now on, in milliseconds: lease and retention
-- ARGV[5] who claims
-- ARGV[6] scope, key, method and path of the record to create when it is absent, as its field
--         request has them; '' if an absent record is GONE
-- ARGV[7] params of that record, '' for none
-- The others may be left out from the end on, and are then ''.
-- ARGV[8] flags:
--         'd' the caller waits for replicas, so a reply about an older write also writes something:
--             waiting for that covers the older one
--         'l' the reply has the remaining life of a finished record
--         'p' the reply has the params of a finished record
--         'c' the caller is a completer: keys that are finished or gone leave the due index
--         'w' and a number, at the end: how long the caller has waited, in microseconds
-- ARGV[9] the record that the caller has seen: its revision, a space, and when it was created,
--         which distinguishes it from a later record of the same key; '' for any
-- ARGV[10] channel on which the caller wants to hear that the key is free, '' for none; with 'c'
--         the score with which the due index handed the key out, '' for any
-- ARGV[11] the flow that is to work on the key: its name/version and its recovery points, each with
--         a line break behind it; '' for none
-- ARGV[12] with KEYS[3]: how long after its lease a completer leaves the key alone, in milliseconds
-- ARGV[13] the trace context of the caller, for the record to create
-- ARGV[14] without KEYS[2]: the record's control before the caller took the lock, '-' when it had
--         none, '' when another attempt has the lock
-- ARGV[15] with KEYS[3]: how long after its creation the record reaches its flow's deadline, in
--         milliseconds: a completer looks at it by then
--
-- Replies
--   OWN      token, fence, attempts, attempts of this revision; for a record that existed, the
--            server's time of the claim, which is not the fence if the clock was set back. With
--            ARGV[9] '' and a record that existed; the record before the claim as field, value, ...
--            For a new record in place of a tombstone two more numbers: the time, and its
--            generation. If ARGV[9] is not '', two more words: the record's flow, '-' for none, and
--            '1' if it is a dead letter, else '0'
--   BUSY     token, remaining time of the lock in milliseconds. Without KEYS[2] that is 0: another
--            attempt has the lock, or the record has changed since ARGV[14]
--   DONE     token, with 'l' the remaining life of the record in milliseconds; the record without
--            its state, and without its params unless 'p' asks for them: it is finished
--   INTERIM  token, age of the answer in microseconds; the record: it got an interim answer while
--            the caller waited, or its stage is snoozed
--   MOVED    token; the record: its revision is another one, or it is another record
--   STALE    token: this attempt has ended already, and this call is a late duplicate
--   MISMATCH token: the record has another fingerprint
--   GONE     token: the record does not exist
--   LATER    token: another worker had the lease since the due index handed the key out to this
--            completer, or its stage is snoozed; the key is due at another time
--   LETTER   token; the record's flow: the key is a dead letter, and the call has no KEYS[4]
--   OTHER    token; the flow that the record belongs to: another flow, or another version. '' for
--            a completer whose record has no flow
--   UNKNOWN  token; the recovery point, which the flow does not have
--   DAMAGED  token; what is wrong
--
-- Safe to repeat: yes. The same token gets the same fence, and no attempt is counted twice.
-- redis.call: by the reply
--   OWN      5 for a new record (EXISTS, SET, TIME, HSET, PEXPIRE; in place of a tombstone HMGET
--            too) and with ARGV[9] (HMGET in place of EXISTS); 7 for one that existed (also HMGET,
--            HGETALL). When repeated, no TIME and HSET, and 2 more if the lock is still there (GET,
--            PEXPIRE). Added to that: 2 with KEYS[3], or with KEYS[4] of a dead letter (ZADD,
--            PEXPIRE; PEXPIRE twice when the index is new; PTTL of a dead letter; TIME when
--            repeated)
--   LETTER   3 (EXISTS, HMGET, HDEL)
--   DONE     4 (EXISTS, HMGET, HMGET, HDEL); 3 with ARGV[9]; 1 more (HMGET) after a single commit
--            without a response or with a failure before it
--   BUSY     5 (EXISTS, HMGET, SET, GET, PTTL); 4 with ARGV[9]; 2 more to enter the caller as
--            waiting (HGET, HSET)
--   INTERIM  6 (EXISTS, HMGET, HMGET, TIME, HGETALL, HDEL)
--   Without KEYS[2] there is no SET and GET, and no PTTL of the lock. Added to that: 1 with 'l' for
--   DONE (PTTL); 2 with 'd' (PEXPIRETIME, PEXPIREAT); 1 or 2 for a completer (ZSCORE, ZREM); 1 for
--   the first claim with a flow (HSET); of an unfinished record 1 with 'w' or of a snoozed stage
--   (HMGET), and another if it has an interim answer (TIME); for LATER of such a stage 2 (TIME,
--   ZADD); for BUSY 3 to make the record (TIME, HSET, PEXPIRE), and 1 to
--   shorten a lock (PEXPIRE).
local redis, KEYS, ARGV, string = redis, KEYS, ARGV, string -- a read of a global costs more
local token, fingerprint, flags, expected, points = ARGV[1], ARGV[2], ARGV[8] or '', ARGV[9] or '', ARGV[11] or ''

-- Params, state and response are read only for replies that have them.
local exists = expected ~= '' or redis.call('EXISTS', KEYS[1]) == 1
local control, printed, point, flow, letter, generation, damage
if exists then
  local r = redis.pcall('HMGET', KEYS[1], 'control', 'fingerprint', 'recovery_point', 'flow', 'dead_letter', 'generation')
  control, printed, point, flow, letter, generation, damage = r[1], r[2], r[3], r[4], r[5], r[6], r.err
end

-- The commonest replay is the answer of a single commit, with the record in order. It is joined
-- here in one piece, which takes the server half of what the lists further down take.
if point == 'finished' and flags == '' and not flow and control and printed == fingerprint and string.sub(control, 1, 4) == '2 1 ' then
  local r = redis.call('HMGET', KEYS[1], 'request', 'response_code', 'response_headers', 'response_body', 'j:0', 'not_kept', 'last_failure')
  if r[1] and r[2] and r[4] and r[5] and not r[6] and not r[7] then
    local length, headers = '', ''
    if r[3] then
      length, headers = '16 ' .. #r[3] .. ' ', 'response_headers' .. r[3]
    end
    redis.call('HDEL', KEYS[1], '') -- a server that is no longer a master refuses it
    return 'DONE ' .. token
      .. ' \n7 ' .. #control .. ' 11 ' .. #printed .. ' 14 8 7 ' .. #r[1] .. ' 13 ' .. #r[2] .. ' ' .. length .. '13 ' .. #r[4]
      .. ' 3\ncontrol' .. control .. 'fingerprint' .. printed .. 'recovery_pointfinishedrequest' .. r[1] .. 'response_code' .. r[2]
      .. headers .. 'response_body' .. r[4] .. 'j:0' .. r[5]
  end
end

local revision, owner, fence, stage, attempts, length, spent, created
if control then
  revision, owner, fence, stage, attempts, length, spent, created =
    string.match(control, '^2 (%d+) (%S+) (%d+) (%d+) (%d+) (%d+) (%S+) (%d+) %S+$')
  if string.sub(control, 1, 2) ~= '2 ' then
    damage = 'unknown schema version'
  elseif not revision then
    damage = 'control cannot be read'
  elseif not printed or not point then
    damage = 'a field is missing'
  end
elseif generation and not printed then
  exists = false -- a tombstone of a delete
elseif exists and not damage then
  exists = expected == '' or redis.call('EXISTS', KEYS[1]) == 1
  damage = exists and 'the hash has no schema version'
end
if damage then
  return 'DAMAGED ' .. token .. '\n\n' .. damage
end

local completing = flags ~= '' and string.find(flags, 'c', 1, true)

local clock, touch, texts
if exists or ARGV[6] == '' then
  -- Server time in microseconds, as text: formatting numbers of that size costs more than joining
  -- strings.
  function clock()
    local time = redis.call('TIME')
    return time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
  end

  function touch()
    if string.find(flags, 'd', 1, true) then
      local expires = redis.call('PEXPIRETIME', KEYS[1])
      if expires > 0 then
        redis.call('PEXPIREAT', KEYS[1], expires)
      else
        redis.call('PEXPIRE', KEYS[1], ARGV[4]) -- its expiry was removed from outside
      end
    end
  end

  -- Joins texts in pieces, since some Lua interpreters join no more than a few thousand at once.
  local function join(list, between)
    local joined = table.concat(list, between, 1, math.min(#list, 1000))
    for i = 1001, #list, 1000 do
      joined = joined .. between .. table.concat(list, between, i, math.min(i + 999, #list))
    end
    return joined
  end

  -- Returns a reply with texts: a line with their lengths, without the last one, and the texts.
  function texts(first, list)
    local lengths = {}
    for i = 1, #list - 1 do
      lengths[i] = #list[i]
    end
    return first .. '\n' .. join(lengths, ' ') .. '\n' .. join(list, '')
  end

  -- Returns the age of the record's interim answer if the answer was made while the caller waited.
  -- A later attempt that already has the lease makes no difference. It also returns the age if the
  -- stage is snoozed and a flow claims, and then how many microseconds are left.
  local function interim()
    local waited = owner ~= token and string.match(flags, 'w(%d+)$')
    local snoozed = owner == '~' and points ~= ''
    if waited or snoozed then
      local r = redis.call('HMGET', KEYS[1], 'interim', 'j:' .. string.format('%d', revision - 1))
      local at = string.sub(r[1] or '', 1, 1) == '1' and string.match(r[2] or '', '^(%d+) ')
      local age = at and math.max(clock() - at, 0)
      local left = age and snoozed and (tonumber(string.sub(r[1], 3)) or 0) * 1000 - age or 0
      return age and (left > 0 or waited and age < tonumber(waited)) and age, left
    end
  end

  -- Replies with a finished record: everything but the state, and the params on request.
  local function done(life)
    local names = {'request', 'response_code', 'response_headers', 'response_body', 'not_kept', 'last_failure'}
    if string.find(flags, 'p', 1, true) then
      names[#names + 1] = 'request_params'
    end
    -- The journal of a flow has up to 1024 commits and a compensation for each.
    for back = math.min(revision, flow and 2049 or 64), 1, -1 do
      names[#names + 1] = 'j:' .. string.format('%d', revision - back)
    end
    local values = redis.call('HMGET', KEYS[1], unpack(names))
    local words = {'control', control, 'fingerprint', printed, 'recovery_point', point}
    local last = #words
    if flow then
      words[last + 1], words[last + 2], last = 'flow', flow, last + 2
    end
    for i = 1, #names do
      if values[i] then
        words[last + 1], words[last + 2], last = names[i], values[i], last + 2
      end
    end
    return texts('DONE ' .. token .. ' ' .. life, words)
  end

  -- Takes a key that no longer needs a completer out of the due index.
  local function settle()
    if KEYS[3] and completing then
      redis.call('ZREM', KEYS[3], string.sub(KEYS[1], -32))
    end
  end

  -- Returns the reply to a claim that the record refuses, and nil for one that may have the lease.
  local function refusal()
    if not exists then
      settle()
      return 'GONE ' .. token
    end
    if fingerprint ~= '' and printed ~= fingerprint then
      return 'MISMATCH ' .. token
    end
    if point == 'finished' then
      settle()
      touch()
      local life = ''
      if string.find(flags, 'l', 1, true) then
        life = redis.call('PTTL', KEYS[1])
      end
      return done(life)
    end
    if spent == token then
      return 'STALE ' .. token
    end
    local age, left = interim()
    if age and completing then
      -- The index does not have the time, for instance because it was lost.
      if KEYS[3] then
        local at = redis.call('TIME')
        redis.call('ZADD', KEYS[3], 'XX', string.format('%.0f', at[1] * 1000 + math.ceil(at[2] / 1000 + left / 1000)),
          string.sub(KEYS[1], -32))
      end
      return 'LATER ' .. token
    end
    if age then
      touch()
      return texts('INTERIM ' .. token .. ' ' .. string.format('%.0f', age), redis.call('HGETALL', KEYS[1]))
    end
    if expected ~= '' and revision .. ' ' .. created ~= expected then
      return texts('MOVED ' .. token, redis.call('HGETALL', KEYS[1]))
    end
    if points ~= '' then
      if not flow and completing then
        -- The key was deleted and used again without a flow: the entry in the due index is about
        -- another record.
        settle()
        return 'OTHER ' .. token .. '\n\n'
      end
      if flow and string.sub(points, 1, #flow + 1) ~= flow .. '\n' then
        if string.match(flow, '^[^/]*') ~= string.match(points, '^[^/]*') then
          settle() -- as above: the key is in the index of its own flow
        end
        return 'OTHER ' .. token .. '\n\n' .. flow
      end
      -- Every flow has the points of compensations, which ARGV[11] does not list.
      if not string.find(points, '\n' .. point .. '\n', 1, true) and not string.find(point, '^compensate:%d+$') then
        return 'UNKNOWN ' .. token .. '\n\n' .. point
      end
    end
    -- A changed score means that another worker has had the key since it was handed out. A
    -- repeated claim has changed the score itself.
    if KEYS[3] and completing and ARGV[10] ~= '' and owner ~= token
      and tonumber(redis.call('ZSCORE', KEYS[3], string.sub(KEYS[1], -32)) or 0) ~= tonumber(ARGV[10]) then
      return 'LATER ' .. token
    end
    if letter and flow and not KEYS[4] then
      return 'LETTER ' .. token .. '\n\n' .. flow -- its entry in the list must be extended with it
    end
  end

  local reply = refusal()
  if reply then
    -- Changes nothing, but a server that is no longer a master refuses it. Its data may be out of
    -- date and justifies no refusal.
    redis.call('HDEL', KEYS[1], '')
    return reply
  end
end

-- Enters the key in the due index. It is due when its lease has lapsed and its client has had time
-- to come back. That time doubles with each attempt, up to 64 times, and is at most half of the
-- retention. The index expires with the last of its records, even if no completer clears it. A
-- claim leaves a dead letter one: a commit, a requeue or a delete ends that. Without an index the
-- function is not made, because making it costs more than asking for it.
local enter
if KEYS[3] then
  function enter(at, attempt)
    -- GT never changes a key without a TTL, so NX sets the first one.
    if letter and KEYS[4] then
      local life = math.max(redis.call('PTTL', KEYS[1]), ARGV[4]) -- a dead letter may live longer
      redis.call('ZADD', KEYS[4], 'GT', string.format('%.0f', math.floor(at / 1000) + life), string.sub(KEYS[1], -32))
      if redis.call('PEXPIRE', KEYS[4], life, 'GT') == 0 then
        redis.call('PEXPIRE', KEYS[4], life, 'NX')
      end
    elseif not letter then
      local due = math.floor(at / 1000) + ARGV[3] + math.min(ARGV[12] * 2 ^ math.min(attempt - 1, 6), (ARGV[4] - ARGV[3]) / 2)
      if ARGV[15] then
        local deadline = math.floor((created or at) / 1000) + ARGV[15]
        if deadline * 1000 > tonumber(at) then
          due = math.min(due, math.max(deadline, math.floor(at / 1000) + ARGV[3]))
        end
      end
      redis.call('ZADD', KEYS[3], string.format('%.0f', due), string.sub(KEYS[1], -32))
      if redis.call('PEXPIRE', KEYS[3], ARGV[4], 'GT') == 0 then
        redis.call('PEXPIRE', KEYS[3], ARGV[4], 'NX')
      end
    end
  end
end

-- Takes the lock. A repeated claim finds its own token in it, and restores its full length.
local mine, holder
if KEYS[2] then
  local taken = redis.pcall('SET', KEYS[2], token, 'NX', 'PX', ARGV[3])
  mine = taken and not taken.err
  if not mine then
    holder = redis.call('GET', KEYS[2])
    if taken and not (holder and string.find(taken.err, 'OOM', 1, true)) then
      return taken -- the error, unless only the memory is full: the lock is another attempt's
    end
    mine = holder == token and redis.call('PEXPIRE', KEYS[2], ARGV[3])
  end
else
  -- The caller took the lock before this call. If the record is unchanged since before that, no
  -- other attempt has a lease.
  mine = ARGV[14] ~= '' and (owner == token or (control or '-') == ARGV[14])
end

if not exists then
  -- The new record has no lease if the lock is another attempt's.
  local time = redis.call('TIME')
  local at = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
  local control = mine and '2 0 ' .. token .. ' ' .. at .. ' 1 1 ' .. ARGV[3] .. ' - ' .. at .. ' ' .. ARGV[5]
    or '2 0 - 0 0 0 0 - ' .. at .. ' -'
  -- The commonest record has params and nothing more, and so no list of further fields is made.
  if points == '' and not ARGV[13] and ARGV[7] ~= '' then
    redis.call('HSET', KEYS[1], 'control', control, 'fingerprint', fingerprint, 'recovery_point', 'started', 'request', ARGV[6],
      'request_params', ARGV[7])
  else
    local fields = {}
    if ARGV[7] ~= '' then
      fields = {'request_params', ARGV[7]}
    end
    if points ~= '' then
      fields[#fields + 1], fields[#fields + 2] = 'flow', string.match(points, '^[^\n]*')
    end
    if (ARGV[13] or '') ~= '' then
      fields[#fields + 1], fields[#fields + 2] = 'origin', ARGV[13]
    end
    redis.call('HSET', KEYS[1], 'control', control, 'fingerprint', fingerprint, 'recovery_point', 'started', 'request', ARGV[6],
      unpack(fields))
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  if enter then
    enter(at, 1)
  end
  if mine then
    -- The new record keeps the generation of the tombstone that it replaces.
    return 'OWN ' .. token .. ' ' .. at .. ' 1 1' .. (generation and ' ' .. at .. ' ' .. string.match(generation, '^%d*') or '')
  end
end

if not mine then
  local left = KEYS[2] and redis.call('PTTL', KEYS[2]) or 0
  -- If more time is left than the holder asked for, the server's clock was set back. The lock is
  -- then shortened to the holder's lease.
  if holder and holder == owner and left > tonumber(length) then
    redis.call('PEXPIRE', KEYS[2], length)
    left = tonumber(length)
  end
  local channel = ARGV[10] or ''
  if channel ~= '' and not completing then
    local waiting = redis.call('HGET', KEYS[1], 'waiting') or ''
    -- A caller that finds the list or the server's memory full polls instead.
    if not string.find(waiting, channel, 1, true) and #waiting < 1024 then
      redis.pcall('HSET', KEYS[1], 'waiting', waiting .. channel .. ' ')
    end
  end
  return 'BUSY ' .. token .. ' ' .. left
end

-- The record before the claim, for a caller that has not seen it.
local before = expected == '' and redis.call('HGETALL', KEYS[1])
local at = fence
if owner == token then
  touch()
  -- The lock was restored to its full length, so the record must live as long as after a new claim.
  redis.call('PEXPIRE', KEYS[1], ARGV[4], 'GT')
  if letter and enter then
    enter(clock(), stage)
  end
else
  at = clock()
  -- Compares two numbers without leading zeros as texts. If the clock is not ahead of the old
  -- fence, the new one is the old one plus 1.
  if #fence > #at or #fence == #at and fence >= at then
    fence = string.format('%.0f', fence + 1)
  else
    fence = at
  end
  attempts, stage = tostring(attempts + 1), tostring(stage + 1)
  redis.call('HSET', KEYS[1], 'control', '2 ' .. revision .. ' ' .. token .. ' ' .. fence .. ' ' .. stage .. ' ' .. attempts .. ' '
    .. ARGV[3] .. ' ' .. spent .. ' ' .. created .. ' ' .. ARGV[5])
  if points ~= '' and not flow then
    redis.call('HSET', KEYS[1], 'flow', string.match(points, '^[^\n]*'))
  end
  -- GT: a claim never shortens the record's life.
  redis.call('PEXPIRE', KEYS[1], ARGV[4], 'GT')
  if enter then
    enter(at, stage)
  end
end

local own = 'OWN ' .. token .. ' ' .. fence .. ' ' .. attempts .. ' ' .. stage .. ' ' .. at
if not before then
  return own .. ' ' .. (flow or '-') .. (letter and ' 1' or ' 0') -- which the caller's view may lack
end
return texts(own, before)
