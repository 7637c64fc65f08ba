package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// keyRecord is a key as JSON. Durations are in seconds.
type keyRecord struct {
	ID            string        `json:"id"`
	State         string        `json:"state"`
	Error         string        `json:"error,omitempty"`
	Scope         string        `json:"scope,omitempty"`
	Key           string        `json:"key,omitempty"`
	Method        string        `json:"method,omitempty"`
	Path          string        `json:"path,omitempty"`
	Flow          string        `json:"flow,omitempty"`
	RecoveryPoint string        `json:"recovery_point,omitempty"`
	Revision      int64         `json:"revision"`
	Attempts      int           `json:"attempts"`
	StageAttempts int           `json:"stage_attempts"`
	Status        int           `json:"status,omitempty"`
	NotKept       string        `json:"not_kept,omitempty"`
	Dead          string        `json:"dead,omitempty"`
	DeadAt        time.Time     `json:"dead_at,omitzero"`
	CreatedAt     time.Time     `json:"created_at,omitzero"`
	CanceledAt    time.Time     `json:"canceled_at,omitzero"`
	LockedAt      time.Time     `json:"locked_at,omitzero"`
	LockedBy      string        `json:"locked_by,omitempty"`
	LastFailure   *failure      `json:"last_failure,omitempty"`
	LeaseLeft     float64       `json:"lease_left,omitempty"`
	Life          float64       `json:"life"`
	Due           time.Time     `json:"due,omitzero"`
	Journal       []commit      `json:"journal,omitempty"`
	Params        []byte        `json:"params,omitempty"`
	Response      *answerRecord `json:"response,omitempty"`
}

type commit struct {
	Revision int64     `json:"revision"`
	Stage    string    `json:"stage"`
	At       time.Time `json:"at"`
	Owner    string    `json:"owner"`
	Attempt  int       `json:"attempt"`
	Took     float64   `json:"took"`
}

type failure struct {
	At      time.Time `json:"at"`
	Attempt int       `json:"attempt"`
	Owner   string    `json:"owner"`
	Text    string    `json:"text"`
	Error   string    `json:"error,omitempty"` // why the text cannot be read
}

type answerRecord struct {
	Status int                 `json:"status"`
	Header map[string][]string `json:"header,omitempty"`
	Body   []byte              `json:"body,omitempty"`
}

// newKeyRecord returns the JSON of a key, with its values only if they are asked for.
func newKeyRecord(k *redisidem.KeyInfo, values bool) *keyRecord {
	r := &keyRecord{
		ID: k.ID, State: k.State.String(), Scope: k.Scope, Key: k.Value, Method: k.Method, Path: k.Path, Flow: k.Flow,
		RecoveryPoint: k.RecoveryPoint, Revision: k.Revision, Attempts: k.Attempts, StageAttempts: k.StageAttempts,
		Status: k.Status, NotKept: k.NotKept, CreatedAt: k.CreatedAt, CanceledAt: k.CanceledAt, LockedAt: k.LockedAt, LockedBy: k.LockedBy, LeaseLeft: k.LeaseLeft.Seconds(),
		Life: k.Life.Seconds(), Due: k.Due,
	}
	if k.Err != nil {
		r.Error = k.Err.Error()
	}
	if f := k.LastFailure; f != nil {
		r.LastFailure = &failure{At: f.At, Attempt: f.Attempt, Owner: f.Owner, Text: f.Text}
		if f.Err != nil {
			r.LastFailure.Error = f.Err.Error()
		}
	}
	if k.DeadLetter != nil {
		r.Dead, r.DeadAt = k.DeadLetter.Reason, k.DeadLetter.At
	}
	for _, e := range k.Journal {
		r.Journal = append(r.Journal, commit{e.Revision, e.Stage, e.At, e.Owner, e.Attempt, e.Took.Seconds()})
	}
	if values && k.Key != nil {
		r.Params = k.Key.Params
		if response := k.Key.Response; !response.IsZero() {
			r.Response = &answerRecord{response.Code, response.Header, response.Body}
		}
	}
	return r
}

// meanings say what each state means for an operator.
var meanings = map[redisidem.KeyState]string{
	redisidem.KeyUnreadable:  "the record cannot be read",
	redisidem.KeyFinished:    "retries get the stored answer",
	redisidem.KeyInFlight:    "a worker has the lease",
	redisidem.KeyDead:        "a completer gave it up; requeue or resolve it",
	redisidem.KeyAbandoned:   "its worker is gone; the next attempt may begin",
	redisidem.KeyInterim:     "it has an interim answer and waits for its client",
	redisidem.KeyInterrupted: "what the last attempt did is unknown; it waits for a retry or for resolve",
	redisidem.KeyIdle:        "no work is under way",
}

// showColumns is how wide the lines about a key are at most, without the name in front. Longer ones
// are continued beneath.
const showColumns = 110

// codecFlagsHelp says what an operator can do about values that cannot be read.
const codecFlagsHelp = "--encryption-key-file and --compressed say how the programs encode values"

// reasonOf returns why a value cannot be read.
func reasonOf(err error) string {
	return strings.TrimPrefix(err.Error(), redisidem.ErrDamaged.Error()+": ")
}

// showKey prints all about a key.
func showKey(k *redisidem.KeyInfo, output string, values bool) error {
	if output == "json" {
		return newJSON(os.Stdout).Encode(newKeyRecord(k, values))
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		for _, part := range wrapped(fmt.Sprintf(format, args...), showColumns) {
			fmt.Fprintf(w, "%s\t%s\n", name, part)
			name = ""
		}
	}
	at := func(t time.Time) string { return clock(t) + ", " + span(max(k.At.Sub(t), 0)) + " ago" }
	line("ID", "%s", k.ID)
	line("State", "%s: %s", k.State, meanings[k.State])
	if k.Err != nil {
		line("Not read", "%s", message(k.Err))
		if k.State != redisidem.KeyUnreadable {
			line("", codecFlagsHelp)
		}
	}
	if k.Scope != "" {
		line("Scope", "%s", shown(k.Scope))
		line("Key", "%s", shown(k.Value))
	}
	if k.State == redisidem.KeyUnreadable {
		return w.Flush()
	}
	line("Request", "%s", strings.TrimSpace(shown(k.Method)+" "+shown(k.Path)))
	if k.Flow != "" {
		line("Flow", "%s", shown(k.Flow))
	}
	line("Stage", "%s, revision %d", shown(k.RecoveryPoint), k.Revision)
	if n := len(k.Journal); n >= redisidem.WarnUndoable {
		line("Journal", "%d commits; with more than %d the flow cannot be undone", n, redisidem.MaxUndoable)
	}
	line("Attempts", "%d, %d of them since the last commit", k.Attempts, k.StageAttempts)
	line("Created", "%s", at(k.CreatedAt))
	if !k.CanceledAt.IsZero() {
		line("Canceled", "%s", at(k.CanceledAt))
	}
	if !k.LockedAt.IsZero() {
		line("Lease", "given to %s, %s", shown(k.LockedBy), at(k.LockedAt))
	}
	if k.LeaseLeft != 0 {
		line("Lease left", "%s", span(k.LeaseLeft))
	}
	if f := k.LastFailure; f != nil {
		line("Failed last", "%s, attempt %d by %s", at(f.At), f.Attempt, shown(f.Owner))
		if f.Err == nil {
			line("", "%s", shown(message(errors.New(f.Text))))
		} else {
			line("", "not read: %s", reasonOf(f.Err))
			line("", codecFlagsHelp)
		}
	}
	if k.DeadLetter != nil {
		line("Dead", "%s: %s", at(k.DeadLetter.At), shown(k.DeadLetter.Reason))
	}
	if !k.Due.IsZero() {
		line("Due", "%s", clock(k.Due))
	}
	if k.Life < 0 {
		line("Expires", "never: its expiry was removed")
	} else {
		line("Expires", "in %s", span(k.Life))
	}
	if k.NotKept != "" {
		line("Not kept", "%s could not be stored", shown(k.NotKept))
	}
	unbroken := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) } // to be copied
	showValues(unbroken, k, values)
	if err := w.Flush(); err != nil {
		return err
	}
	return showTimeline(os.Stdout, k)
}

// showValues prints the values of a key, or how long they are.
func showValues(line func(name, format string, args ...any), k *redisidem.KeyInfo, values bool) {
	hidden := func(b []byte) string {
		if values {
			return shown(string(b))
		}
		return count(len(b), "byte") + "; --body prints it"
	}
	if k.Key == nil {
		if k.Status != 0 {
			line("Answer", "%d", k.Status)
		}
		return
	}
	if len(k.Key.Params) > 0 {
		line("Params", "%s", hidden(k.Key.Params))
	}
	if r := k.Key.Response; !r.IsZero() {
		line("Answer", "%d", r.Code)
		if len(r.Body) > 0 {
			line("Body", "%s", hidden(r.Body))
		}
		if values {
			for _, name := range slices.Sorted(maps.Keys(r.Header)) {
				line("Header", "%s: %s", name, shown(strings.Join(r.Header[name], ", ")))
			}
		}
	}
}

// showTimeline prints the journal of a key.
func showTimeline(to io.Writer, k *redisidem.KeyInfo) error {
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nWHEN\tAFTER\tWHAT\tTOOK\tTRY\tBY")
	fmt.Fprintf(w, "%s\t0s\tcreated\t-\t-\t-\n", clock(k.CreatedAt))
	for _, e := range k.Journal {
		took, try := span(e.Took), fmt.Sprint(e.Attempt)
		if e.Attempt == 0 {
			took, try = "-", "by hand"
		}
		fmt.Fprintf(w, "%s\t%s\tcommit of %s\t%s\t%s\t%s\n", clock(e.At), span(max(e.At.Sub(k.CreatedAt), 0)), cut(e.Stage, 30), took, try, cut(e.Owner, 30))
	}
	return w.Flush()
}
