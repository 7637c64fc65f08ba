package protocol

// Status is the first word of a script's reply.
type Status string

// The statuses of all scripts. Each file in package lua lists its own.
const (
	StatusOK        Status = "OK"
	StatusCreated   Status = "CREATED"
	StatusFound     Status = "FOUND"
	StatusOwn       Status = "OWN"
	StatusBusy      Status = "BUSY"
	StatusDone      Status = "DONE"
	StatusInterim   Status = "INTERIM"
	StatusMoved     Status = "MOVED"
	StatusStale     Status = "STALE"
	StatusFree      Status = "FREE"
	StatusGone      Status = "GONE"
	StatusLost      Status = "LOST"
	StatusFenced    Status = "FENCED"
	StatusForgotten Status = "FORGOTTEN"
	StatusMismatch  Status = "MISMATCH"
	StatusOther     Status = "OTHER"
	StatusUnknown   Status = "UNKNOWN"
	StatusEffect    Status = "EFFECT"
	StatusAlive     Status = "ALIVE"
	StatusLater     Status = "LATER"
	StatusLate      Status = "LATE"
	StatusLetter    Status = "LETTER"
	StatusFull      Status = "FULL"
	StatusDamaged   Status = "DAMAGED"
)

// The flags of the scripts, each a letter in one argument.
const (
	flagDurable   = "d" // the caller waits for replicas
	flagKeep      = "k" // the commit keeps the lease
	flagLife      = "l" // reply how long a finished record lives
	flagParams    = "p" // the caller does not have the params of a finished record
	flagClean     = "c" // the caller is a completer, which cleans the due index
	flagJournal   = "j" // a flow may compensate by the journal
	flagUndoing   = "u" // a flow compensates by the journal
	flagIdle      = "n" // nothing was done: the attempt at the stage does not count
	flagUnbegun   = "a" // no callback has begun under the lease: the attempt at the key does not count
	flagSpared    = "s" // a shutdown stopped the attempt, which does not count for MaxAttempts
	flagRefused   = "r" // no program could work on the key or read it
	flagOpen      = "o" // the attempt was cut short
	flagUnsettled = "u" // with the life of the record behind it: the key waits for an operator
	flagRevived   = "b" // the key is a dead letter, which a commit revives
	flagWaited    = "w" // the time that the caller has waited follows
	flagByHand    = "h" // whether the flow is recoverable is unknown; the due index decides
	flagSnoozed   = "z" // the stage is snoozed
	flagMerged    = "m" // the commit before was a snooze, too, and its journal entry is replaced
)
