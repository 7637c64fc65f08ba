-- update: writes fields of a record without a lease holder, as a revision of its own.
--
-- KEYS[1] record   KEYS[2] lock
-- KEYS[3] due index   KEYS[4] dead letters: both of the record's flow; left out when it has none
-- ARGV[1] token of this update   ARGV[2] the revision that the caller has seen
-- ARGV[3] when the record that the caller has seen was created, since it may have been deleted and
--         made again; '' for any
-- ARGV[4] retention in milliseconds   ARGV[5] who updates
-- ARGV[6] flags: 'd' the caller waits for replicas, so a reply about an older write must be a write
--         too
-- ARGV[7...] field, value, ... to write
--
-- Replies
--   OK      token; the record after the update as field, value, ...
--   BUSY    token, remaining time of the lock in milliseconds
--   DONE    token: a finished record never changes
--   MOVED   token: the revision is another one
--   OTHER   token; the record's flow, which the caller did not know
--   GONE    token: the record does not exist
--   DAMAGED token; what is wrong
--
-- Safe to repeat: yes. The journal names the token; a repeated update gets OK and writes nothing.
-- redis.call: 6 (HMGET, PTTL, TIME, HSET, PEXPIRE, HGETALL); 1 more with a flow (PEXPIRE); 3 more
-- with a dead letter (PTTL, ZADD, PEXPIRE; PEXPIRE twice when their list is new); 3 more when the
-- key is finished then (HDEL, ZREM twice); 1 more once the journal is full (HDEL). 2 when repeated
-- (HMGET, HGETALL), 4 with 'd' (also PEXPIRETIME, PEXPIREAT).
local token, revision = ARGV[1], ARGV[2]

-- Joins texts in pieces, since some Lua interpreters join no more than a few thousand at once.
local function join(list, between)
  local joined = table.concat(list, between, 1, math.min(#list, 1000))
  for i = 1001, #list, 1000 do
    joined = joined .. between .. table.concat(list, between, i, math.min(i + 999, #list))
  end
  return joined
end

-- Returns a reply with texts: a line with their lengths, without the last one, and the texts.
local function texts(first, list)
  local lengths = {}
  for i = 1, #list - 1 do
    lengths[i] = #list[i]
  end
  return first .. '\n' .. join(lengths, ' ') .. '\n' .. join(list, '')
end

-- Changes nothing, but a server that is no longer a master refuses it. Its data may be out of date
-- and justifies no refusal.
local function master()
  redis.call('HDEL', KEYS[1], '')
end

local r = redis.pcall('HMGET', KEYS[1], 'control', 'recovery_point', 'j:' .. revision, 'flow', 'generation', 'dead_letter', 'merged')
if r.err then
  return 'DAMAGED ' .. token .. '\n\n' .. r.err
end
if not r[1] then
  if not r[5] and redis.call('EXISTS', KEYS[1]) == 1 then -- and it is not a tombstone
    return 'DAMAGED ' .. token .. '\n\nthe hash has no schema version'
  end
  master()
  return 'GONE ' .. token
end
local current, fence, attempts, rest, created = string.match(r[1], '^2 (%d+) %S+ (%d+) %d+ (%d+) (%d+ %S+ (%d+) %S+)$')
if not current then
  return 'DAMAGED ' .. token .. '\n\nunknown schema version, or control cannot be read'
end
if r[3] then
  if string.match(r[3], '^%d+ (%S+) ') == token then
    if string.find(ARGV[6], 'd', 1, true) then
      local expires = redis.call('PEXPIRETIME', KEYS[1])
      if expires > 0 then
        redis.call('PEXPIREAT', KEYS[1], expires)
      else
        redis.call('PEXPIRE', KEYS[1], ARGV[4]) -- its expiry was removed from outside
      end
    end
    return texts('OK ' .. token, redis.call('HGETALL', KEYS[1]))
  end
end
if ARGV[3] ~= '' and created ~= ARGV[3] then
  master()
  return 'MOVED ' .. token
end
if r[2] == 'finished' then
  return 'DONE ' .. token
end
if current ~= revision then
  master()
  return 'MOVED ' .. token
end
if r[4] and not KEYS[4] then
  return 'OTHER ' .. token .. '\n\n' .. r[4]
end
local left = redis.call('PTTL', KEYS[2])
if left ~= -2 then
  return 'BUSY ' .. token .. ' ' .. left
end

local time = redis.call('TIME')
local now = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
local guard = string.format('%.0f', fence + 1)
redis.call('HSET', KEYS[1], 'control', '2 ' .. string.format('%d', revision + 1) .. ' - ' .. guard .. ' 0 ' .. attempts
  .. ' ' .. rest, 'j:' .. revision, now .. ' ' .. token .. ' ' .. guard .. ' 0 ' .. ARGV[5] .. ' ' .. (r[2] or ''),
  unpack(ARGV, 7))
redis.call('PEXPIRE', KEYS[1], ARGV[4], 'GT')
-- A due key stays due, and a dead letter stays one, until the work is finished or continued.
if KEYS[4] then
  local member, letter = string.sub(KEYS[1], -32), r[6]
  for i = 7, #ARGV, 2 do
    if ARGV[i] == 'recovery_point' and ARGV[i + 1] == 'finished' then
      redis.call('HDEL', KEYS[1], 'dead_letter')
      redis.call('ZREM', KEYS[3], member)
      redis.call('ZREM', KEYS[4], member)
      letter = nil
    end
  end
  redis.call('PEXPIRE', KEYS[3], ARGV[4], 'GT')
  if letter then
    local life = math.max(redis.call('PTTL', KEYS[1]), ARGV[4]) -- a dead letter may live longer
    redis.call('ZADD', KEYS[4], 'GT', string.format('%.0f', math.floor(now / 1000) + life), member)
    -- GT takes a key without a TTL for one that never expires, so NX sets the first.
    if redis.call('PEXPIRE', KEYS[4], life, 'GT') == 0 then
      redis.call('PEXPIRE', KEYS[4], life, 'NX')
    end
  end
end
-- A flow may compensate by the journal, which is then as long as in the commit script. If commits
-- were merged, the journal has fewer entries than there are revisions, and drops none by its
-- distance before it is full.
local kept = r[4] and 1024 or 64
local whole = string.find(r[2] or '', '^compensate:%d+$') or revision - (tonumber(r[7]) or 0) < kept
for i = 7, #ARGV, 2 do
  whole = whole or ARGV[i] == 'recovery_point' and string.find(ARGV[i + 1], '^compensate:%d+$')
end
if tonumber(revision) >= kept and not (r[4] and whole) then
  redis.call('HDEL', KEYS[1], 'j:' .. string.format('%d', revision - kept))
end
return texts('OK ' .. token, redis.call('HGETALL', KEYS[1]))
