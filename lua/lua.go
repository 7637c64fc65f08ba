// Package lua holds the scripts of redisidem's protocol, one file for each transition of a record.
//
// The header of each file lists its KEYS, its ARGV and its replies. It says why the script is safe
// to repeat, and how many redis.call each path makes, because the server's time limits the whole
// library. All scripts follow the same rules:
//
//   - every read and every check comes before the first write, because Redis does not roll a script
//     back;
//   - a script is safe to repeat: its reply may have been lost;
//   - only the keys in KEYS are used, and they live in one cluster slot;
//   - the reply is one string, because an array costs the server more. Its first line has the
//     status, the token or nonce of the call, and the reply's numbers, separated by spaces. A reply
//     with texts, which the header lists behind a semicolon, has a second line with the length in
//     bytes of each text but the last; the texts follow without anything between them. The token
//     lets a client detect the reply to another call on a connection that is out of step.
package lua

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts by it
	_ "embed"
	"encoding/hex"
	"strings"
)

// Script is one script of the protocol. It is immutable.
type Script struct {
	// Name is the transition. The script's file has the same name.
	Name string
	// Source is the text to send with EVAL.
	Source string
	// SHA is the name of Source for EVALSHA.
	SHA string

	word     any // SHA
	allowOOM *Script
	audited  *Script
}

// Word returns SHA as a word of a command. It does not allocate.
func (s *Script) Word() any { return s.word }

func newScript(name, source string) *Script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // Redis names scripts by it
	sha := hex.EncodeToString(sum[:])
	return &Script{Name: name, Source: source, SHA: sha, word: sha}
}

// newEssential makes a script that has a second form for a server whose memory is full.
func newEssential(name, source string) *Script {
	s := newScript(name, source)
	s.allowOOM = newScript(name, "#!lua flags=allow-oom\n"+source)
	return s
}

// AllowOOM returns the form of the script that a server with full memory accepts, or nil. Only the
// scripts that store finished work or give a lease back have such a form. It needs Redis 7: older
// servers and miniredis do not support script flags.
func (s *Script) AllowOOM() *Script { return s.allowOOM }

// newAct makes a script that has a second form, which an operator's act is recorded by.
func newAct(name, source string) *Script {
	s := newScript(name, source)
	s.audited = newScript(name, strings.Replace(audit, noAct, source, 1))
	return s
}

// noAct is the act of the audit script, which that of a script replaces.
const noAct = "  local nonce = ARGV[1]\n  return 'OK ' .. nonce\n"

// Audited returns the form of the script that also writes an entry into the audit stream, or nil.
// Only the scripts of an operator's acts have such a form. Its keys and arguments are those of the
// audit script, followed by the script's own.
func (s *Script) Audited() *Script { return s.audited }

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

//go:embed cancel.lua
var cancel string

//go:embed releaseinmigration.lua
var releaseInMigration string

//go:embed due.lua
var due string

//go:embed completerlimit.lua
var completerLimit string

//go:embed quota.lua
var quota string

//go:embed requeue.lua
var requeue string

//go:embed reindex.lua
var reindex string

//go:embed turn.lua
var turn string

//go:embed rest.lua
var rest string

//go:embed pause.lua
var pause string

//go:embed resume.lua
var resume string

//go:embed permissions.lua
var permissions string

//go:embed audit.lua
var audit string

// The scripts: the transitions of a record, Due, CompleterLimit, Requeue, Reindex, Turn and Rest
// for completers, Quota for quotas, Permissions for the check of a Redis user, and Pause, Resume
// and Audit for operators.
var (
	Create             = newScript("create", create)
	Claim              = newScript("claim", claim)
	Commit             = newEssential("commit", commit)
	Renew              = newScript("renew", renew)
	Abandon            = newEssential("abandon", abandon)
	Update             = newAct("update", update)
	Delete             = newAct("delete", del)
	Unlock             = newAct("unlock", unlock)
	Cancel             = newAct("cancel", cancel)
	ReleaseInMigration = newScript("releaseinmigration", releaseInMigration)
	Due                = newScript("due", due)
	CompleterLimit     = newScript("completerlimit", completerLimit)
	Quota              = newScript("quota", quota)
	Requeue            = newAct("requeue", requeue)
	Reindex            = newScript("reindex", reindex)
	Turn               = newScript("turn", turn)
	Rest               = newScript("rest", rest)
	Pause              = newAct("pause", pause)
	Resume             = newAct("resume", resume)
	Permissions        = newScript("permissions", permissions)
	Audit              = newScript("audit", audit)
)

// All returns every script, in the order of a record's life.
func All() []*Script {
	return []*Script{
		Create, Claim, Commit, Renew, Abandon, Update, Delete, Unlock, Cancel, ReleaseInMigration,
		Due, CompleterLimit, Quota, Requeue, Reindex, Turn, Rest, Pause, Resume, Permissions, Audit,
	}
}
