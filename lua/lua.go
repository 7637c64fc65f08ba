// Package lua holds the scripts that make up redisidem's protocol, one file per transition of a
// record.
//
// Each file opens with its KEYS, its ARGV, its replies, whether it is safe to repeat, and the
// number of redis.call on each path: the server's time is the limit of the whole library. All
// scripts keep the same rules:
//
//   - every read and every check comes before the first write, since Redis does not roll a script
//     back;
//   - a script is safe to repeat: its reply may have been lost;
//   - only the keys in KEYS are used, and they live in one cluster slot;
//   - the reply is a flat array of strings. The first has the status, the token or nonce of the
//     call and the reply's numbers, separated by spaces, since each element costs more than a word;
//     behind a semicolon in the header come the others, which are texts. A client that reads
//     another call's reply from a mixed-up connection sees by the token that it is not its own.
package lua

import (
	"crypto/sha1" //nolint:gosec // it is how Redis names scripts
	_ "embed"
	"encoding/hex"
)

// Script is one script of the protocol. It is immutable.
type Script struct {
	// Name is the transition, which is the file's name without its ending.
	Name string
	// Source is the text to send with EVAL.
	Source string
	// SHA is the name of Source for EVALSHA.
	SHA string

	allowOOM *Script
}

func newScript(name, source string) *Script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // it is how Redis names scripts
	return &Script{Name: name, Source: source, SHA: hex.EncodeToString(sum[:])}
}

// newEssential makes a script that has a second form for a server whose memory is full.
func newEssential(name, source string) *Script {
	s := newScript(name, source)
	s.allowOOM = newScript(name, "#!lua flags=allow-oom\n"+source)
	return s
}

// AllowOOM returns the form of the script that a server with full memory accepts, or nil: only the
// scripts that store finished work or give a lease back have one. It needs Redis 7: older servers
// and miniredis know no script flags.
func (s *Script) AllowOOM() *Script { return s.allowOOM }

//go:embed create.lua
var create string

//go:embed claim.lua
var claim string

//go:embed commit.lua
var commit string

//go:embed renew.lua
var renew string

//go:embed abandon.lua
var abandon string

//go:embed update.lua
var update string

//go:embed delete.lua
var del string

//go:embed unlock.lua
var unlock string

//go:embed due.lua
var due string

//go:embed requeue.lua
var requeue string

//go:embed rights.lua
var rights string

// The transitions of a record, what a completer looks for, and what a check does.
var (
	Create  = newScript("create", create)
	Claim   = newScript("claim", claim)
	Commit  = newEssential("commit", commit)
	Renew   = newScript("renew", renew)
	Abandon = newEssential("abandon", abandon)
	Update  = newScript("update", update)
	Delete  = newScript("delete", del)
	Unlock  = newScript("unlock", unlock)
	Due     = newScript("due", due)
	Requeue = newScript("requeue", requeue)
	Rights  = newScript("rights", rights)
)

// All returns every script, in the order of a record's life.
func All() []*Script {
	return []*Script{Create, Claim, Commit, Renew, Abandon, Update, Delete, Unlock, Due, Requeue, Rights}
}
