package console

import "time"

const (
	// maxCostly is how many pages can be made at a time whose reads are costly: lists of keys and
	// the audit. Viewers have as many places as operators, and cannot take those of operators.
	maxCostly = 3
	// costlyWait is how long a further one waits for its turn.
	costlyWait = 5 * time.Second
)

// beginCostly waits for the turn of a page whose reads are costly. The turn ends when the page is
// made, and before it is sent: see [visit.render]. A page has one turn, however often it asks.
func (v *visit) beginCostly() error {
	if v.costly {
		return nil
	}
	wait := time.NewTimer(costlyWait)
	defer wait.Stop()
	select {
	case v.console.costly[v.user.Role] <- struct{}{}:
		v.costly = true
		return nil
	case <-wait.C:
		return errManyCostly
	case <-v.r.Context().Done():
		return v.r.Context().Err()
	}
}

// endCostly ends the turn, if the page has one.
func (v *visit) endCostly() {
	if v.costly {
		v.costly = false
		<-v.console.costly[v.user.Role]
	}
}
