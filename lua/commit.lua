-- commit: applies the result of a stage in one step: the new recovery point, the response and the
-- effects. This script keeps the promise. The record's token, fence and revision must be those that
-- the claim handed out. The lock does not matter: finished work that no other attempt has claimed
-- is stored, however late it comes.
--
-- KEYS[1] record
-- KEYS[2] lock, left out with all keys behind it while its slot migrates: the caller handles the
--         lock
-- KEYS[...] with ARGV[9] the due index, with 'b' the dead letters, then the key of each effect
-- ARGV[1] token
-- ARGV[2] how the record's control begins while the commit may be applied: the schema version, the
--         revision that the commit extends, the token and the fence, each with a space behind it
-- ARGV[3] lease and retention together, in milliseconds
-- ARGV[4] which run of the stage this is, counted from 1; who commits; the recovery point that the
--         stage started from: separated by spaces, as the journal has them
-- ARGV[5] the new recovery point
-- ARGV[6] response code   ARGV[7] response body. With code '' the stored response stays
-- The others may be left out from the end on, and are then ''.
-- ARGV[8] flags:
--         'k' keep the lease for the next stage
--         'd' the caller waits for replicas, so a reply about an older write must be a write too
--         'j' a flow may compensate by the journal, which then keeps 1024 commits and not 64
--         'u' the flow compensates now: the compensation is a commit, too, and must not push out
--             the commits that are still to be undone
--         'b' the key is a dead letter, and no longer is after this commit
--         'h' the caller does not know whether the flow is recoverable: the due index says so, by
--             having the key
--         'z' the stage is snoozed: until the time in the field interim, a claim for a flow gets
--             the interim answer
--         'm' the commit before was a snooze of this stage, too: this entry replaces that one in
--             the journal, so that a stage may be snoozed any number of times
-- ARGV[9] when a completer may continue the key, in milliseconds from now; '-' when the key is
--         finished and leaves the due index; '' when it is not recoverable
-- ARGV[10] the number n of words to write, '' for none
-- ARGV[11...10+n] further field, value, ... to write
-- ARGV[11+n...] the effects, each as: type of its key, '' for a channel; expiry in milliseconds, ''
--         for none; number of words behind the key; command; those words
--
-- Replies
--   OK        token, '1' if the lease is still held, else '0', server time of the commit in
--             microseconds
--   FENCED    token: the result is not stored and never will be
--   GONE      token: the claimed record is gone and the result is not stored; an earlier try may
--             have stored it there
--   FORGOTTEN token: the journal no longer has the revision, so the outcome is unknown
--   EFFECT    token, number of the effect that cannot be applied, counted from 0; why. Nothing was
--             written
--   DAMAGED   token; what is wrong
--
-- Safe to repeat: yes. The journal names who committed a revision, so a repeated commit gets OK and
-- writes nothing.
-- redis.call: 5 when the lease ends (HMGET, GET, DEL, TIME, HSET; also PEXPIRE when the claim is
-- older than the lease is long; no DEL when the lock is not this token's); 6 when it is kept
-- (HMGET, GET, TIME, HSET, SET, PEXPIRE). Added to that: 1 once the journal is full, or with 'm'
-- (HDEL); 2 when
-- a caller waits (PUBLISH, HDEL); 1 or 2 with a due index (ZREM, or ZADD and PEXPIRE; PEXPIRE twice
-- when the index is new); 3 with 'b' (HDEL, ZREM, PTTL); 2 for each effect (TYPE, its command; GET
-- before INCRBY; XINFO before XADD; PEXPIRE for an expiry). 2 or 3 for a repeated commit, 3 or 4
-- for FENCED and GONE; 2 more of these with 'd'. Without KEYS[2] there is no GET, DEL or SET.
local redis, KEYS, ARGV, string = redis, KEYS, ARGV, string -- a read of a global costs more
local token, mine = ARGV[1], ARGV[2]
local flags, due = ARGV[8] or '', ARGV[9] or ''

local r = redis.pcall('HMGET', KEYS[1], 'control', 'waiting')
if r.err then
  return 'DAMAGED ' .. token .. '\n\n' .. r.err
end

local control = r[1]
if not control or string.find(control, mine, 1, true) ~= 1 then
  -- Writes for a caller that waits for replicas, so that a reply about an older write is about a
  -- write of this call.
  local function touch()
    if string.find(flags, 'd', 1, true) then
      local expires = redis.call('PEXPIRETIME', KEYS[1])
      if expires > 0 then
        redis.call('PEXPIREAT', KEYS[1], expires)
      else
        redis.call('PEXPIRE', KEYS[1], ARGV[3]) -- its expiry was removed from outside
      end
    end
  end

  -- Changes nothing, but a server that is no longer a master refuses it. Its data may be out of
  -- date and justifies no refusal. Neither does data that a failover may lose: after that, a
  -- repeated commit would be stored.
  local function master()
    redis.call('HDEL', KEYS[1], '')
    touch()
  end

  if not control then
    if redis.call('EXISTS', KEYS[1]) == 1 and not redis.call('HGET', KEYS[1], 'generation') then -- and it is not a tombstone
      return 'DAMAGED ' .. token .. '\n\nthe hash has no schema version'
    end
    master()
    return 'GONE ' .. token
  end
  if string.sub(control, 1, 2) ~= '2 ' then
    return 'DAMAGED ' .. token .. '\n\nunknown schema version'
  end
  local revision, fence = string.match(mine, '^2 (%d+) %S+ (%d+) $')
  local current, owner, last, made = string.match(control, '^2 (%d+) (%S+) (%d+) %d+ %d+ %d+ %S+ (%d+) ')
  if not current then
    return 'DAMAGED ' .. token .. '\n\ncontrol cannot be read'
  end
  -- A record that was made after the claim is another one, and its revisions mean nothing here.
  if #made > #fence or #made == #fence and made > fence then
    master()
    return 'GONE ' .. token
  end
  if tonumber(current) <= tonumber(revision) then
    master()
    return 'FENCED ' .. token
  end
  local entry = redis.call('HGET', KEYS[1], 'j:' .. revision)
  if not entry then
    master()
    return 'FORGOTTEN ' .. token
  end
  local at, t, f = string.match(entry, '^(%d+) (%S+) (%d+) ')
  if t ~= token or f ~= fence then
    master()
    return 'FENCED ' .. token
  end
  touch()
  local held = '0'
  if owner == token and last == fence and (not KEYS[2] or redis.call('GET', KEYS[2]) == token) then
    held = '1'
  end
  return 'OK ' .. token .. ' ' .. held .. ' ' .. at
end

local revision, fence, attempts, lease, spent, rest =
  string.match(control, '^2 (%d+) %S+ (%d+) %d+ (%d+) (%d+) (%S+) (%d+ %S+)$')
if not revision then
  return 'DAMAGED ' .. token .. '\n\ncontrol cannot be read'
end

-- Every effect is checked before the first write, because Redis does not roll a script back.
local fields = 10 + (tonumber(ARGV[10]) or 0)
local effects
local words, keys = fields + 1, 2
if due ~= '' then
  keys = 3
end
-- Without flags, which is the common case, no function is made to look for them.
local keep, letters, snoozed, merged, undoing, byHand, kept = false, false, false, false, false, false, 64
if flags ~= '' then
  local function has(flag)
    return string.find(flags, flag, 1, true)
  end
  keep, letters, snoozed, merged, undoing, byHand = has('k'), has('b'), has('z'), has('m'), has('u'), has('h')
  kept = has('j') and 1024 or 64
end
if letters then
  keys = 4
end
while words <= #ARGV do
  effects = effects or {}
  local effect = {type = ARGV[words], expiry = ARGV[words + 1], command = ARGV[words + 3], first = words + 4,
    last = words + 3 + ARGV[words + 2]}
  local number = #effects
  local allowed = true
  if effect.type == '' then
    allowed = not redis.acl_check_cmd or redis.acl_check_cmd('PUBLISH', unpack(ARGV, effect.first, effect.last))
  else
    keys = keys + 1
    effect.key = KEYS[keys]
    local found = redis.call('TYPE', effect.key).ok
    if found ~= 'none' and found ~= effect.type then
      return 'EFFECT ' .. token .. ' ' .. number .. '\n\nits key holds a ' .. found .. ', not a ' .. effect.type
    end
    if effect.command == 'INCRBY' and found ~= 'none' then
      local value = redis.call('GET', effect.key)
      if value ~= '0' and not string.find(value, '^-?[1-9]%d*$') or #value > 16 then
        return 'EFFECT ' .. token .. ' ' .. number .. '\n\nits key holds no whole number of up to 15 digits'
      end
    end
    if effect.command == 'XADD' and found ~= 'none' then
      local info = redis.call('XINFO', 'STREAM', effect.key)
      for n = 1, #info, 2 do
        -- The last millisecond may have fewer IDs left than this commit has effects.
        if info[n] == 'last-generated-id' and string.find(info[n + 1], '^18446744073709551615%-') then
          return 'EFFECT ' .. token .. ' ' .. number .. '\n\nits key holds a stream without IDs left'
        end
      end
    end
    allowed = not redis.acl_check_cmd
      or redis.acl_check_cmd(effect.command, effect.key, unpack(ARGV, effect.first, effect.last))
        and (effect.expiry == '' or redis.acl_check_cmd('PEXPIRE', effect.key, effect.expiry))
  end
  if not allowed then
    return 'EFFECT ' .. token .. ' ' .. number .. '\n\nthe Redis user may not ' .. effect.command .. ' there'
  end
  effects[#effects + 1] = effect
  words = effect.last + 1
end

local holder = token
if KEYS[2] then
  holder = redis.call('GET', KEYS[2])
  -- If this lease has lapsed, the lock may be that of another attempt, or of a program that knows
  -- only the lock.
  if not keep and holder == token then
    redis.call('DEL', KEYS[2])
  end
end
local held = keep and (holder == token or not holder)
local time = redis.call('TIME')
-- As text: formatting numbers of that size costs more than joining strings.
local now = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]

-- Most commits are a record's first: no number need be formatted for them.
local extended = revision == '0' and '1' or string.format('%d', revision + 1)
local after
if held then
  after = '2 ' .. extended .. ' ' .. token .. ' ' .. fence .. ' 1 ' .. attempts .. ' ' .. lease .. ' ' .. spent .. ' ' .. rest
  if KEYS[2] then
    -- This comes first: nothing is lost if this is the command that the Redis user may not run.
    redis.call('SET', KEYS[2], token, 'PX', lease)
  end
else
  after = '2 ' .. extended .. (snoozed and ' ~ ' or ' - ') .. fence .. ' 0 ' .. attempts .. ' ' .. lease .. ' ' .. token .. ' ' .. rest
end
local entry = now .. ' ' .. token .. ' ' .. fence .. ' ' .. ARGV[4]
if ARGV[6] == '' then
  redis.call('HSET', KEYS[1], 'control', after, 'j:' .. revision, entry, 'recovery_point', ARGV[5], unpack(ARGV, 11, fields))
else
  redis.call('HSET', KEYS[1], 'control', after, 'j:' .. revision, entry, 'recovery_point', ARGV[5], 'response_code', ARGV[6],
    'response_body', ARGV[7], unpack(ARGV, 11, fields))
end

-- Effects follow the record at once, so that no command that the Redis user may not run comes
-- between.
if effects then
  for _, effect in ipairs(effects) do
    if effect.key then
      redis.call(effect.command, effect.key, unpack(ARGV, effect.first, effect.last))
    else
      redis.pcall('PUBLISH', unpack(ARGV, effect.first, effect.last))
    end
    if effect.expiry ~= '' then
      redis.call('PEXPIRE', effect.key, effect.expiry)
    end
  end
end

if held then
  redis.call('PEXPIRE', KEYS[1], ARGV[3], 'GT')
else
  -- The fence is the time of the claim, unless the clock was set back.
  local age = now - fence
  if age < 0 or age > lease * 1000 then
    -- Otherwise the claim has made the record live for the retention from now on. The lock does not
    -- show this: a late duplicate may have extended the lock alone.
    redis.call('PEXPIRE', KEYS[1], ARGV[3] - lease, 'GT')
  end
end

-- Drops the entry that this one replaces, or that is too old for the journal.
if merged then
  redis.call('HDEL', KEYS[1], 'j:' .. string.format('%d', revision - 1))
elseif tonumber(revision) >= kept and not undoing then
  redis.call('HDEL', KEYS[1], 'j:' .. string.format('%d', revision - kept))
end

-- Enters in the due index when a completer may continue the key. A former dead letter is in the
-- index again.
if letters then
  redis.call('HDEL', KEYS[1], 'dead_letter')
  redis.call('ZREM', KEYS[4], string.sub(KEYS[1], -32))
end
if KEYS[2] and due == '-' then
  redis.call('ZREM', KEYS[3], string.sub(KEYS[1], -32))
elseif KEYS[2] and due ~= '' then
  local score = string.format('%.0f', math.ceil(now / 1000) + due) -- not before a snooze ends
  if byHand and not letters then
    redis.call('ZADD', KEYS[3], 'XX', score, string.sub(KEYS[1], -32))
  else
    redis.call('ZADD', KEYS[3], score, string.sub(KEYS[1], -32))
  end
  -- The index lives as long as the last of its records, and a former dead letter may live longer
  -- than others. GT takes a key without a TTL for one that never expires, so NX sets the first.
  local life = letters and math.max(redis.call('PTTL', KEYS[1]), ARGV[3]) or ARGV[3]
  if redis.call('PEXPIRE', KEYS[3], life, 'GT') == 0 then
    redis.call('PEXPIRE', KEYS[3], life, 'NX')
  end
end

if held then
  return 'OK ' .. token .. ' 1 ' .. now
end
if r[2] then
  redis.call('HDEL', KEYS[1], 'waiting')
  for channel in string.gmatch(r[2], '%S+') do
    redis.pcall('PUBLISH', channel, KEYS[1])
  end
end
return 'OK ' .. token .. ' 0 ' .. now
