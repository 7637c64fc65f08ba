-- quota: takes, renews, changes or gives back the share that a process has of a scope's quota. A
-- share is a number of places for requests in flight and one of places for new records. The process
-- admits requests by its share without a further call.
--
-- KEYS[1] quota: a hash. Field s:ID is a share, with ten words: the number of its last call; when
--         it lapses; how many records its process has reported; its requests in flight; the places
--         for these, how many of them are spare, and the limit; the places for records, how many of
--         them are spare, and the limit. A share that was given back keeps the first three words
--         for 15 s if records are limited, and its other words are 0. Field c:TIME is how many
--         records count until then, which are those of a sixteenth of a window. Times are in
--         milliseconds.
-- ARGV[1] nonce, echoed in the reply
-- ARGV[2] ID of the share               ARGV[3] number of the call, which grows with each
-- ARGV[4] how long the share lasts, in milliseconds; 0 gives it back
-- ARGV[5] requests in flight            ARGV[6] requests that wait for a place
-- ARGV[7] limit for requests in flight, 0 for none
-- ARGV[8] places for them that the process goes on to use, whatever the reply
-- ARGV[9] limit for records, 0 for none
-- ARGV[10] places for them that the process goes on to use, without those of ARGV[11]
-- ARGV[11] records made under the share so far
-- ARGV[12] how many of these a reply has confirmed
-- ARGV[13] how long a record counts, in milliseconds
--
-- Replies
--   OK      nonce, places for requests in flight, how many are spare, places for records, how many
--           are spare, requests in flight of all processes, records that count, milliseconds until
--           fewer records count
--   STALE   nonce: a later call of the share has been here
--   DAMAGED nonce; what is wrong: the key is not a hash
--
-- Safe to repeat: yes. The reported numbers are totals. A duplicate that arrives after a later call
-- changes nothing; so does one that arrives after the share was given back, within 15 s if records
-- are limited. Otherwise it makes a share that lapses.
-- redis.call: 2 for STALE (TIME, HGETALL), else 3 to 5 (also HDEL, HSET and PEXPIRE).
local nonce, id, call, lasts = ARGV[1], 's:' .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local inFlight, waiting = tonumber(ARGV[5]), tonumber(ARGV[6])
local limits = {tonumber(ARGV[7]), tonumber(ARGV[9])}
local keeps = {tonumber(ARGV[8]), tonumber(ARGV[10])}
local made, window = tonumber(ARGV[11]), tonumber(ARGV[13])

local all = redis.pcall('HGETALL', KEYS[1])
if all.err then
  return 'DAMAGED ' .. nonce .. '\n\n' .. all.err
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local width = math.ceil(window / 16)
local counts, before = {}, {}

local function text(n)
  return string.format('%.0f', n)
end

-- A share is needed until it lapses, and then as long as its places count as records.
local function countsUntil(lapse, n)
  return n > 0 and lapse + window + width or lapse
end

local function count(at, n)
  if n > 0 then
    local part = 'c:' .. text(math.floor(at / width) * width + width + window)
    counts[part] = (counts[part] or 0) + n
  end
end

for i = 1, #all, 2 do
  if string.sub(all[i], 1, 2) == 'c:' then
    counts[all[i]] = tonumber(all[i + 1]) or 0
    before[all[i]] = counts[all[i]]
  end
end
local fields, gone = {}, {}
local held, spared, processes, working = {0, 0}, {0, 0}, 1, inFlight
local needed = now -- until when the hash is
local confirmed = tonumber(ARGV[12])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 2) == 's:' then
    local word = {}
    for number in string.gmatch(all[i + 1], '%d+') do
      word[#word + 1] = tonumber(number)
    end
    if all[i] == id then
      if word[1] > call then
        return 'STALE ' .. nonce
      end
      confirmed = word[3]
    elseif word[2] > now and word[2] <= now + 120000 then -- later: the clock was set back
      processes = processes + (word[7] + word[10] > 0 and 1 or 0) -- if it was not given back
      working = working + word[4]
      held = {held[1] + word[5], held[2] + word[8]}
      spared = {spared[1] + word[6], spared[2] + word[9]}
      needed = math.max(needed, countsUntil(word[2], word[8]))
    else
      gone[#gone + 1] = all[i]
      count(math.min(word[2], now), word[8]) -- each place may have become a record
    end
  end
end
count(now, made - confirmed)
local counted, first = 0, math.huge
for part, n in pairs(counts) do
  local ends = tonumber(string.sub(part, 3)) or 0
  if ends <= now then
    gone[#gone + 1] = part
  else
    counted = counted + n
    first, needed = math.min(first, ends), math.max(needed, ends)
    if before[part] ~= n then
      fields[#fields + 1] = part
      fields[#fields + 1] = text(n)
    end
  end
end
local places, spare = {0, 0}, {0, 0}
for i, used in ipairs({0, counted}) do
  if limits[i] > 0 and lasts > 0 then
    local pool = math.floor(limits[i] / 16)
    local part = math.max(1, math.floor(pool / (processes + 1))) -- one is left for a newcomer
    local most = limits[i] - used - held[i]
    spare[i] = math.max(0, math.min(part, pool - spared[i], most - inFlight - waiting))
    places[i] = math.max(keeps[i], inFlight, math.min(inFlight + waiting + spare[i], most))
  end
end
if lasts > 0 then
  local function idle(i) -- the process may keep twice its spare places
    return text(math.max(spare[i], math.ceil((places[i] - inFlight - waiting) / 2)))
  end
  fields[#fields + 1] = id
  fields[#fields + 1] = table.concat({
    ARGV[3], text(now + lasts), ARGV[11], ARGV[5],
    text(places[1]), idle(1), ARGV[7], text(places[2]), idle(2), ARGV[9],
  }, ' ')
  needed = math.max(needed, countsUntil(now + lasts, places[2]))
elseif limits[2] > 0 then -- so that a repetition does not count its records again
  fields[#fields + 1] = id
  fields[#fields + 1] = ARGV[3] .. ' ' .. text(now + 15000) .. ' ' .. ARGV[11] .. ' 0 0 0 0 0 0 0'
  needed = math.max(needed, now + 15000)
else
  gone[#gone + 1] = id
end
if #gone > 0 then
  redis.call('HDEL', KEYS[1], unpack(gone))
end
if #fields > 0 then
  redis.call('HSET', KEYS[1], unpack(fields))
end
redis.call('PEXPIRE', KEYS[1], text(needed - now)) -- changes nothing if the hash is empty
local fewer = first < math.huge and first - now or 0
local words = {places[1], spare[1], places[2], spare[2], working, counted, fewer}
for i, n in ipairs(words) do
  words[i] = text(n)
end
return 'OK ' .. nonce .. ' ' .. table.concat(words, ' ')
