package redisidem

import "strconv"

// EarlierVersion is a version of a flow that still has unfinished keys: see [FlowConfig].Earlier.
type EarlierVersion struct {
	// Flow is the earlier version, as its program made it. It is required. Its own Earlier applies
	// as well: a key of version 1 that version 2 adopts goes on to version 3.
	Flow *Flow

	// Adopt moves an unfinished key to the new version. It gets the key between two stages of the
	// earlier version: [Stage.Key] has its recovery point and its journal, and [Stage.State] its
	// state. It returns [Advance] with a recovery point of the new version, and WithState if the
	// new version has another form of state; without it the state stays. [NothingDone] leaves the
	// key to the earlier version for one more stage. Adopt can run more than once for a key, so it
	// should only calculate.
	//
	// The adoption is a commit of its own: from then on the key belongs to the new version.
	// Programs without that version get a [*FlowError], and their completers count the key as one
	// that they cannot run. The journal names the commit "adopt:" and the recovery point at which
	// the key was adopted. The new version's Deadline counts from the creation of the key, and
	// MaxAttempts from the adoption.
	//
	// If the flow fails later, the commits before the adoption are compensated by the new version's
	// stages with the same recovery points. NoReturn of these stages does not apply to them. Each
	// gets the state that its commit left, if the earlier version could undo it. Otherwise it gets
	// that of the adoption. If Adopt sets a state, all of them get it.
	//
	// A key goes on in the earlier version, and Adopt does not get it:
	//
	//   - while it is compensated, and if it is canceled, past the earlier version's Deadline, or
	//     behind its point of no return; for a completer also without attempts left.
	//   - while the new version is paused for the caller: always for completers, for clients if it
	//     is Pausable and they are paused, too.
	//   - if the earlier version could undo one of its commits and the new version could not,
	//     because it has no stage with that recovery point, or one without Compensate.
	//   - if the new version compensates, and the journal does not have all commits.
	//   - while an attempt at the current stage has begun and was not committed, because its
	//     outcome is unknown. Reconcile of the earlier stage is asked first, and Adopt only after
	//     ErrNothingDone. Without Reconcile the stage runs once more in the earlier version.
	//
	// It also goes on in the earlier version if Adopt returns an error or an outcome that the new
	// version does not have. That is logged as a warning. Adopt is asked again before the next
	// stage. idemtest.AdoptMatrix tests an Adopt.
	//
	// Nil: keys of the earlier version end in it.
	Adopt StageFunc
}

// succession says what becomes of the keys of an earlier version.
type succession struct {
	flow  *Flow     // the earlier version
	next  *Flow     // the version that adopts its keys
	adopt StageFunc // nil: they end in their own version
}

// setEarlier checks FlowConfig.Earlier, and collects the earlier versions and those before them.
func (f *Flow) setEarlier() error {
	f.earlier = make(map[string]succession)
	for i, e := range f.cfg.Earlier {
		field := "FlowConfig.Earlier[" + strconv.Itoa(i) + "].Flow"
		switch {
		case e.Flow == nil:
			return invalid(field, "must not be nil")
		case e.Flow.cfg.Name != f.cfg.Name:
			return invalid(field, "must be a version of %q: %s", f.cfg.Name, e.Flow)
		case e.Flow.cfg.Version >= f.cfg.Version:
			return invalid(field, "must be a version before %d: %s", f.cfg.Version, e.Flow)
		case e.Adopt != nil && e.Flow.recoverable() && !f.recoverable():
			return invalid(field, "(%s) has a RecoverAfter, so this version needs one to adopt its keys", e.Flow)
		}
		all := map[string]succession{e.Flow.id: {e.Flow, f, e.Adopt}}
		for id, s := range e.Flow.earlier {
			all[id] = s
		}
		for id, s := range all {
			if _, ok := f.earlier[id]; ok {
				return invalid(field, "has a version that is there already: %s", id)
			}
			f.earlier[id] = s
		}
	}
	return nil
}

// adopts reports whether an Adopt can put a key at a stage that no other stage leads to.
func (f *Flow) adopts() bool {
	for _, e := range f.cfg.Earlier {
		if e.Adopt != nil {
			return true
		}
	}
	return false
}

// version returns the flow, or the earlier version of it, with this name/version. It returns nil
// for any other flow.
func (f *Flow) version(id string) *Flow {
	if f.id == id {
		return f
	}
	return f.earlier[id].flow
}
