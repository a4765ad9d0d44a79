# encoding: utf-8
# A session with Dalli, Ruby's client, which speaks meta commands only. HOST PORT [old]: 'old'
# leaves out what memcached 1.6.18 does not do. Read from standard input, because its Ruby runs in
# a root of its own.

require 'dalli'

Dalli.logger.level = Logger::FATAL
$checked = 0

# Ends the session unless both are equal.
def equal(got, expected, what)
  $checked += 1
  return if got == expected

  abort "#{what}: expected #{short(expected)}, got #{short(got)}"
end

def truthy(got, what)
  equal(got ? true : false, true, what)
end

# The block raises this error.
def raises(error, what)
  yield
  abort "#{what}: nothing was raised"
rescue error
  $checked += 1
end

# Values of a megabyte are abbreviated.
def short(value)
  text = value.inspect
  text.length < 200 ? text : "#{text[0, 100]}.. (#{text.length} characters)"
end

def value_of(key, size)
  word = "#{key}:#{size}:"
  (word * (size / word.bytesize + 1))[0, size]
end

def within(got, low, high, what)
  truthy(got.between?(low, high), "#{what}: #{got}")
end

address = "#{ARGV[0]}:#{ARGV[1]}"
old = ARGV[2] == 'old'
connect = lambda do |**options|
  Dalli::Client.new(address, { socket_timeout: 10, silence_marshal_warning: true }.merge(options))
end
client = connect.call
raw = connect.call(raw: true)

truthy(client.version.values.first.start_with?('1.6'), 'version')
equal(client.flush_all, [true], 'flush_all')

# Values of all kinds; those above 4 KiB are compressed.
['text', '', "\x00\xFF\r\n".b, 42, nil, [1, { 'a' => 2.5 }], :symbol, 'ä€'].each_with_index do |value, n|
  truthy(client.set("kind#{n}", value, 60), "set of #{value.inspect}")
  equal(client.get("kind#{n}"), value, "get of #{value.inspect}")
end
equal(client.get('nothing'), nil, 'get, nothing there')
equal(client.get('kind4', cache_nils: true), nil, 'get of nil')
equal(client.get('nothing', cache_nils: true), Dalli::NOT_FOUND, 'a miss that is not nil')
[0, 1, 1023, 4096, 65_536, 500_000, 1_000_000, 1_048_000].each do |size|
  value = value_of("size#{size}", size)
  truthy(client.set("size#{size}", value), "set of #{size} bytes")
  equal(client.get("size#{size}"), value, "get of #{size} bytes")
  truthy(raw.set("raw#{size}", value), "set of #{size} bytes as they are")
  equal(raw.get("raw#{size}"), value, "get of #{size} bytes as they are")
end
too_large = connect.call(raw: true, value_max_bytes: 2_000_000)
raises(Dalli::DalliError, 'a value too large is refused') { too_large.set('large', 'x' * 1_100_000) }
equal(too_large.get('raw1'), 's', 'the client continues after a refusal')
short_lived = connect.call(namespace: 'space', expires_in: 50)
truthy(short_lived.set('in', 'side'), 'set in a namespace')
equal(client.get('space:in'), 'side', 'and get by its whole name')
ttl = client.get_with_metadata('space:in', return_ttl_remaining: true)[:ttl_remaining]
within(ttl, 48, 50, "the client's own expiry")

# Storing under conditions.
truthy(client.add('absent', 'first'), 'add')
equal(client.add('absent', 'second'), false, 'add, there already')
truthy(client.replace('absent', 'third'), 'replace')
equal(client.replace('absent2', 'x'), false, 'replace, nothing there')
raw.set('text', 'middle')
equal(raw.append('text', '-end'), true, 'append')
equal(raw.prepend('text', 'start-'), true, 'prepend')
equal(raw.get('text'), 'start-middle-end', 'what was extended')
equal(raw.append('absent2', 'x'), false, 'append, nothing there')
equal(raw.prepend('absent2', 'x'), false, 'prepend, nothing there')
equal(client.delete('absent'), true, 'delete')
equal(client.delete('absent'), false, 'delete, nothing there')
equal(client.fetch('fetched') { 'made' }, 'made', 'fetch, nothing there')
equal(client.fetch('fetched') { abort 'fetch called its block' }, 'made', 'fetch')

# Compare and swap.
equal(client.get_cas('no-cas'), [nil, 0], 'get_cas, nothing there')
first = client.set('cas', 'one')
equal(client.get_cas('cas'), ['one', first], 'get_cas, with the number of the set')
second = client.set_cas('cas', 'two', first)
truthy(second && second != first, 'set_cas')
equal(client.set_cas('cas', 'three', first), false, 'set_cas with an old number')
equal(client.set_cas('no-cas', 'x', first), false, 'set_cas, nothing there')
truthy(client.replace_cas('cas', 'three', second), 'replace_cas')
equal(client.replace_cas('cas', 'x', second), false, 'replace_cas with an old number')
truthy(client.cas('cas') { |value| "#{value}+" }, 'cas')
equal(client.get('cas'), 'three+', 'what cas stored')
equal(client.cas('no-cas') { abort 'cas called its block' }, nil, 'cas, nothing there')
equal(client.cas('cas') { client.set('cas', 'between') && 'late' }, false, 'cas, changed meanwhile')
equal(client.get('cas'), 'between', 'which changed nothing')
truthy(client.cas!('cas!') { |value| value.inspect }, 'cas!, nothing there')
equal(client.get('cas!'), 'nil', 'what cas! stored')
equal(client.delete_cas('cas', second), false, 'delete_cas with an old number')
equal(client.delete_cas('cas', client.get_cas('cas')[1]), true, 'delete_cas')
equal(client.get('cas'), nil, 'deleted')

# Counting.
equal(client.incr('n'), nil, 'incr, nothing there')
equal(client.incr('n', 1, 60, 10), 10, 'incr with a first value')
equal(client.incr('n', 5, 60, 10), 15, 'incr')
equal(client.decr('n', 6), 9, 'decr')
equal(client.decr('n', 60), 0, 'decr stops at 0')
equal(client.decr('n2', 1, 0, 7), 7, 'decr with a first value')
ttl = client.get_with_metadata('n', raw: true, return_ttl_remaining: true)[:ttl_remaining]
within(ttl, 57, 60, 'the expiry of the first value')
raw.set('n', '18446744073709551615')
equal(client.incr('n', 2), 1, 'incr wraps')
raw.set('n', 'abc')
raises(Dalli::DalliError, 'incr of a word fails') { client.incr('n') }

# Expiry.
equal(client.touch('cas!', 100), true, 'touch')
equal(client.touch('nothing', 100), nil, 'touch, nothing there')
equal(client.gat('cas!', 200), 'nil', 'gat')
equal(client.gat('nothing', 200), nil, 'gat, nothing there')
found = client.get_with_metadata('cas!', return_ttl_remaining: true)
within(found[:ttl_remaining], 198, 200, 'the expiry of the gat')
truthy(client.set('gone', 'x', -1), 'set, expired at once')
equal(client.get('gone'), nil, 'get what has expired')
truthy(client.set('far', 'x', Time.now.to_i + 5000), 'set until a point in time')
ttl = client.get_with_metadata('far', return_ttl_remaining: true)[:ttl_remaining]
within(ttl, 4990, 5001, 'its expiry')

# What an item knows of itself.
client.set('meta', 'value')
wanted = { return_hit_status: true, return_last_access: true, return_ttl_remaining: true }
found = client.get_with_metadata('meta', wanted)
expected = { value: 'value', won_recache: false, stale: false, lost_recache: false, miss: false,
             hit_before: false, ttl_remaining: -1 }
equal(found.except(:cas, :last_access), expected, 'get_with_metadata')
within(found[:last_access], 0, 10, 'last_access, in whole seconds of the server')
equal(found[:cas], client.get_cas('meta')[1], 'its number')
equal(client.get_with_metadata('meta', wanted)[:hit_before], true, 'hit before')
equal(client.get_with_metadata('nothing', wanted)[:miss], true, 'get_with_metadata, nothing there')
client.set('unused', 'value')
2.times do
  found = client.get_with_metadata('unused', return_hit_status: true, skip_lru_bump: true)
  equal([found[:value], found[:hit_before]], ['value', false], 'a get that is no use')
end
result = client.get_with_metadata_result('meta', wanted)
equal([result.value, result.hit?, result.stale?], ['value', true, false], 'as a CacheResult')

# Many keys at a time. The client writes all requests, quiet ones, before it reads.
many = (0...500).to_h { |n| ["many#{n}", value_of("many#{n}", n * 37)] }
client.set_multi(many, 60)
equal(client.get_multi(many.keys + %w[missing1 missing2]), many, 'get_multi')
one_by_one = {}
client.get_multi(*many.keys) { |key, value| one_by_one[key] = value }
equal(one_by_one, many, 'get_multi with a block')
found = client.get_multi_cas('many1', 'missing1', 'many0')
equal(found.transform_values(&:first), many.slice('many1', 'many0'), 'get_multi_cas')
equal(found['many1'][1], client.get_cas('many1')[1], 'its numbers')
found = client.get_multi_with_metadata('many2', 'missing1')
equal(found.keys, ['many2'], 'get_multi_with_metadata')
equal(found['many2'].slice(:value, :stale), { value: many['many2'], stale: false }, 'its value')
equal(client.delete_multi(%w[many0 many1 missing1]), 2, 'delete_multi')
equal(client.get_multi('many0', 'many1', 'many2'), many.slice('many2'), 'deleted')
two = Dalli::Client.new([address, address], silence_marshal_warning: true)
equal(two.get_multi(many.keys), many.except('many0', 'many1'), 'get_multi over two connections')
large = (0...40).to_h { |n| ["large#{n}", value_of("large#{n}", 200_000)] }
raw.set_multi(large)
equal(raw.get_multi(large.keys), large, 'get_multi of 8 MB')

# Quiet pipelines.
raw.quiet do
  raw.set('q', '5')
  raw.add('q', 'x')
  raw.replace('q-missing', 'x')
  raw.incr('q', 2)
  raw.decr('q', 3)
  raw.append('q', '0')
  raw.prepend('q', '1')
  raw.delete('q-missing')
  raw.add('q2', 'added')
  raw.set('q3', 'x')
  raw.delete('q3')
end
equal(raw.get_multi('q', 'q2', 'q3'), { 'q' => '140', 'q2' => 'added' }, 'after a quiet block')
deferred = connect.call(raw: true, defer_drain: true)
deferred.quiet { 1000.times { |n| deferred.set("quiet#{n}", value_of("quiet#{n}", 100)) } }
equal(deferred.get('quiet999'), value_of('quiet999', 100), 'after 1,000 quiet sets')
deferred.quiet { 1000.times { |n| deferred.delete("quiet#{n}") } }
deferred.drain_deferred_responses
equal(deferred.get('quiet999'), nil, 'after 1,000 quiet deletes')

# Keys that need base64, and long ones.
['a b', 'ключ', "tab\there", "new\r\nline", "\x00".b, 'k' * 250].each do |key|
  truthy(client.set(key, "value of #{key}"), "set of #{key.inspect}")
  equal(client.get(key), "value of #{key}", "get of #{key.inspect}")
end
pairs = { 'a b' => 'value of a b', 'ключ' => 'value of ключ' }
equal(client.get_multi('a b', 'ключ', 'к'), pairs, 'get_multi of such keys')
found = client.get_multi_cas('a b', 'ключ', 'к').transform_values(&:first)
equal(found, pairs, 'get_multi_cas of such keys')
equal(client.get(['ключ'].pack('m0')), nil, 'the key in base64 is another key')
equal(client.delete('ключ'), true, 'delete of such a key')
equal(client.incr('ein Zähler', 1, 0, 3), 3, 'incr of such a key')
truthy(client.set('l' * 400, 'long'), 'set of a key of 400 bytes, which the client hashes')
equal(client.get('l' * 400), 'long', 'get of it')
routed = { p_token: 'proxy', l_token: 'local' }
truthy(client.set('routed', 'x', 60, routed), 'set with tokens for proxies')
equal(client.get('routed', routed), 'x', 'get with tokens for proxies')

# One client fetches; the others wait, or have the stale value.
calls = 0
equal(client.fetch_with_lock('lock', ttl: 60) { calls += 1 }, 1, 'the first client fetches')
equal(client.fetch_with_lock('lock', ttl: 60) { calls += 1 }, 1, 'the second has its value')
won = client.get_with_metadata('lock3', vivify_ttl: 30)
equal(won.slice(:value, :won_recache, :miss), { value: '', won_recache: true, miss: false },
      'a vivified item, won')
lost = client.get_with_metadata('lock3', vivify_ttl: 30)
equal(lost.slice(:won_recache, :lost_recache), { won_recache: false, lost_recache: true }, 'not won')
truthy(client.set_cas('lock3', 'made', won[:cas]), 'the winner stores under its number')
other = connect.call
inside = nil
got = client.fetch_with_lock('lock2', ttl: 60, lock_ttl: 30) do
  inside = other.fetch_with_lock('lock2', lock_ttl: 30) { abort 'two clients fetch' }
  'fetched'
end
equal([got, inside], ['fetched', ''], 'one client fetches while the others get an empty value')
client.set('due', 'value', 20)
equal(client.fetch_with_lock('due', recache_threshold: 5) { 'x' }, 'value', 'not due')
got = client.fetch_with_lock('due', ttl: 60, recache_threshold: 30) do
  equal(other.fetch_with_lock('due', recache_threshold: 30) { 'x' }, 'value', 'the others')
  'new'
end
equal(got, 'new', 'one client fetches what is due')
equal(client.get('due'), 'new', 'and stores it')

# Tombstones.
client.set('tomb', 'value', 100)
before = client.get_cas('tomb')[1]
equal(client.delete('tomb', invalidate: true, tombstone_ttl: 30), true, 'invalidate')
found = client.get_with_metadata('tomb', return_ttl_remaining: true)
marks = found.slice(:value, :stale, :won_recache, :lost_recache, :miss)
equal(marks, { value: 'value', stale: true, won_recache: true, lost_recache: false, miss: false },
      'the first reader of a tombstone wins')
within(found[:ttl_remaining], 28, 30, 'the expiry of a tombstone')
truthy(found[:cas] != before, 'the number of a tombstone')
marks = client.get_with_metadata('tomb').slice(:stale, :won_recache, :lost_recache)
equal(marks, { stale: true, won_recache: false, lost_recache: true }, 'the next one does not')
equal(client.get_multi_with_metadata('tomb')['tomb'][:stale], true, 'get_multi_with_metadata')
equal(client.set_cas('tomb', 'late', before), false, 'an older number is refused')
truthy(client.set_cas('tomb', 'fresh', found[:cas]), 'the winner stores')
found = client.get_with_metadata('tomb')
equal(found.slice(:value, :stale), { value: 'fresh', stale: false }, 'a fresh value')
equal(client.delete('nothing', invalidate: true), false, 'invalidate, nothing there')
client.set_multi({ 'tomb1' => 1, 'tomb2' => 2 })
equal(client.delete_multi(%w[tomb1 tomb2 nothing], invalidate: true), 2, 'invalidate several')
found = client.get_multi_with_metadata('tomb1', 'tomb2', 'nothing')
equal(found.transform_values { |one| one[:stale] }, { 'tomb1' => true, 'tomb2' => true }, 'all stale')
unless old
  raw.set('drop', 'value', 100)
  equal(raw.delete('drop', invalidate: true, drop_value: true), true, 'invalidate without value')
  found = raw.get_with_metadata('drop')
  equal(found.slice(:value, :stale), { value: '', stale: true }, 'an empty stale value')
  raw.set('drop', 'value', 100)
  equal(raw.delete('drop', drop_value: true), true, 'drop the value')
  equal(raw.get_with_metadata('drop').slice(:value, :stale), { value: '', stale: false }, 'empty')
end

truthy(client.stats.values.first['curr_items'].to_i.positive?, 'stats')
truthy(client.stats(:settings).values.first['maxconns'].to_i.positive?, 'stats settings')
equal(client.reset_stats, [true], 'reset_stats')
client.alive!
client.close
equal(client.get('cas!'), 'nil', 'it connects again')
equal(client.flush_all, [true], 'flush_all')
equal(client.get('cas!'), nil, 'get after flush_all')
puts "Dalli #{Dalli::VERSION}: #{$checked} checks hold"
