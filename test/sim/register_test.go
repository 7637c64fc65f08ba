package sim

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// question is an operation on a key.
type question struct {
	key     string
	verb    verb
	view    view   // the view that a read returns, or that a commit or a delete is based on
	value   string // the value that a commit stores
	certain bool   // the operation is known to have been done
}

type verb int

const (
	read verb = iota
	commit
	remove
)

// view is a record as it was read: its creation time, 0 if the record does not exist, and the
// values of its commits. It identifies the content of the record, since each commit has a value of
// its own.
type view struct {
	made   int64
	values string // each followed by a comma
}

func (v view) revision() int { return strings.Count(v.values, ",") }

// register specifies a key. Commits extend the record one after the other, each once and for ever.
// A reader gets exactly the values that were committed.
var register = (&porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		of := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(question).key
			of[key] = append(of[key], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range of {
			slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
			parts = append(parts, part)
		}
		return parts
	},
	Init:  func() []any { return []any{view{}} },
	Equal: func(a, b any) bool { return a == b },
	Step: func(state, input, _ any) []any {
		now, q := state.(view), input.(question)
		fits := now.made == q.view.made && now.made != 0 && now.revision() == q.view.revision()
		switch q.verb {
		case read:
			// A record without commits may have been created by any worker at any time, even by a
			// call that is considered lost.
			if now == q.view || now.made == 0 && q.view.values == "" {
				return []any{q.view}
			}
			return nil
		case commit:
			after := view{now.made, now.values + q.value + ","}
			switch {
			case fits && now != q.view:
				return nil // it extends another history
			case fits && q.certain:
				return []any{after}
			case fits:
				return []any{now, after}
			case q.certain:
				return nil
			}
		case remove:
			switch {
			case now.made != q.view.made:
			case fits && q.certain:
				return []any{view{}}
			case fits:
				return []any{now, view{}}
			case q.certain:
				return nil
			}
		}
		return []any{now}
	},
}).ToModel()

// endless is the end time of an operation that may take effect at any later time.
const endless = math.MaxInt64
