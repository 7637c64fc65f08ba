package redisidem

import "strings"

// The recovery points of every key. A program's own recovery points are between them.
const (
	// Started is the recovery point of a new key.
	Started = "started"
	// Finished is the recovery point of a key whose work is done. The key does not change any more.
	Finished = "finished"
)

// compensating is the prefix of the recovery points of keys that are being compensated. The
// revision to undo next follows it.
const compensating = "compensate:"

// isCompensating reports whether the key is being compensated.
func isCompensating(key *Key) bool { return strings.HasPrefix(key.RecoveryPoint, compensating) }
