package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// The tokens of test payments, like a card network's test cards.
const (
	tokenOK      = "pm_ok"
	tokenDecline = "pm_decline"
	token3DS     = "pm_3ds"                  // the customer has to confirm first
	tokenTimeout = "pm_timeout_after_charge" // charged, but the answer does not come
	tokenCrash   = "pm_crash_after_charge"   // charged, and then the shop's process dies, once
)

var testCards = []string{tokenOK, tokenDecline, token3DS, tokenTimeout, tokenCrash}

// The states of a payment.
const (
	stateConfirm  = "requires_action"
	stateCharged  = "authorized"
	stateDeclined = "declined"
	stateVoided   = "voided"   // charged, and given back
	stateCanceled = "canceled" // called off before it was charged
)

// provider stands for a payment provider. It is a service with a ledger of its own, which accepts
// idempotency keys and refuses fences that are older than one it has seen.
type provider struct {
	db *sql.DB
	// silence is how long a caller waits that gets no answer.
	silence time.Duration
}

// payment is a payment in the provider's ledger.
type payment struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Cents int64  `json:"cents"`
}

// charge is the shop's request.
type charge struct {
	Key     string `json:"key"`      // a charge with the same key is the same charge
	Fence   int64  `json:"fence"`    // the fence of the worker that asks
	FenceOf string `json:"fence_of"` // the key that the fence belongs to: fences of different keys cannot be compared
	Order   string `json:"order"`    // the order that is paid
	Token   string `json:"token"`
	Cents   int64  `json:"cents"`
}

const ledger = `
CREATE TABLE IF NOT EXISTS payments (key TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, paid_for TEXT NOT NULL, state TEXT NOT NULL,
  cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS fences (fence_of TEXT PRIMARY KEY, fence INTEGER NOT NULL);
`

func openProvider(ctx context.Context, file string) (*provider, error) {
	db, err := openSQLite(ctx, file, ledger)
	return &provider{db: db, silence: 30 * time.Second}, err
}

func (p *provider) close() error { return p.db.Close() }

// handler serves the provider's API.
func (p *provider) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /payments", p.create)
	mux.HandleFunc("POST /payments/find", p.find)
	mux.HandleFunc("POST /payments/void", p.void)
	mux.HandleFunc("GET /payments/{id}", p.show)
	// The customer's answer to the question whether it is really them.
	mux.HandleFunc("POST /payments/{id}/confirm", p.turn(map[string]string{stateConfirm: stateCharged}))
	mux.HandleFunc("POST /payments/{id}/refuse", p.turn(map[string]string{stateConfirm: stateDeclined}))
	mux.HandleFunc("GET /charges/{order}", p.count)
	return mux
}

// The provider's refusals.
var (
	errOldFence    = errors.New("a later worker has been here already")
	errOtherCharge = errors.New("the key stands for another charge")
)

// readCharge reads a charge, or answers that something is missing.
func readCharge(w http.ResponseWriter, r *http.Request) (c charge, ok bool) {
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil || c.Key == "" || c.FenceOf == "" || c.Order == "" || c.Cents <= 0 {
		writeError(w, http.StatusBadRequest, "a charge needs a key, a fence, an order and cents")
		return c, false
	}
	return c, true
}

func (p *provider) create(w http.ResponseWriter, r *http.Request) {
	c, ok := readCharge(w, r)
	if !ok {
		return
	}
	made, err := p.charge(r.Context(), c)
	if c.Token == tokenTimeout && err == nil { // it is charged, and the caller gets no answer
		select {
		case <-time.After(p.silence):
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}
	answerPayment(w, made, err)
}

// find answers with the payment of a charge that may have been asked for. From then on it refuses
// earlier workers. A payment that was not found can still be made afterwards, by a request of the
// same worker that is under way.
func (p *provider) find(w http.ResponseWriter, r *http.Request) {
	var c charge
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil || c.Key == "" || c.FenceOf == "" {
		writeError(w, http.StatusBadRequest, "a look-up needs a key and a fence")
		return
	}
	var made payment
	err := transact(r.Context(), p.db, func(tx *sql.Tx) error { return raiseFence(r.Context(), tx, c) })
	if err == nil {
		made, err = p.payment(r.Context(), "key", c.Key)
	}
	answerPayment(w, made, err)
}

// answerPayment answers with a payment, unless there was an error.
func answerPayment(w http.ResponseWriter, made payment, err error) {
	switch {
	case errors.Is(err, errUnknown):
		writeError(w, http.StatusNotFound, err.Error())
	case errors.Is(err, errOldFence):
		writeError(w, http.StatusConflict, err.Error())
	case errors.Is(err, errOtherCharge):
		writeError(w, http.StatusUnprocessableEntity, err.Error())
	case err != nil:
		writeError(w, http.StatusInternalServerError, err.Error())
	default:
		writeJSON(w, http.StatusOK, made)
	}
}

// raiseFence refuses a worker that is earlier than one that was here, and leaves its fence.
func raiseFence(ctx context.Context, tx *sql.Tx, c charge) error {
	r, err := tx.ExecContext(ctx, `INSERT INTO fences (fence_of, fence) VALUES (?, ?)
		ON CONFLICT (fence_of) DO UPDATE SET fence = excluded.fence WHERE fence <= excluded.fence`, c.FenceOf, c.Fence)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, errOldFence)
	}
	return nil
}

// idOf returns the ID of a charge's payment.
func idOf(c charge) string { return "pay_" + c.Key }

// charge makes a payment, or finds the one that the same key has made.
func (p *provider) charge(ctx context.Context, c charge) (made payment, err error) {
	state := stateCharged
	switch c.Token {
	case tokenDecline:
		state = stateDeclined
	case token3DS:
		state = stateConfirm
	}
	err = transact(ctx, p.db, func(tx *sql.Tx) error {
		if err := raiseFence(ctx, tx, c); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO payments (key, id, paid_for, state, cents) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (key) DO NOTHING`, c.Key, idOf(c), c.Order, state, c.Cents); err != nil {
			return err
		}
		var order string
		err := tx.QueryRowContext(ctx, "SELECT id, state, cents, paid_for FROM payments WHERE key = ?", c.Key).
			Scan(&made.ID, &made.State, &made.Cents, &order)
		if err == nil && (order != c.Order || made.Cents != c.Cents) {
			err = errOtherCharge
		}
		return err
	})
	return made, err
}

// payment finds the payment whose column has that value.
func (p *provider) payment(ctx context.Context, column, value string) (seen payment, err error) {
	err = p.db.QueryRowContext(ctx, "SELECT id, state, cents FROM payments WHERE "+column+" = ?", value).
		Scan(&seen.ID, &seen.State, &seen.Cents)
	return seen, found(err)
}

// show answers with a payment.
func (p *provider) show(w http.ResponseWriter, r *http.Request) {
	seen, err := p.payment(r.Context(), "id", r.PathValue("id"))
	answerPayment(w, seen, err)
}

// turn moves a payment from one state to another. In any other state it does nothing, so a
// repetition changes nothing.
func (p *provider) turn(moves map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := transact(r.Context(), p.db, func(tx *sql.Tx) error {
			var state string
			err := found(tx.QueryRowContext(r.Context(), "SELECT state FROM payments WHERE id = ?", r.PathValue("id")).Scan(&state))
			if to, ok := moves[state]; ok && err == nil {
				_, err = tx.ExecContext(r.Context(), "UPDATE payments SET state = ? WHERE id = ?", to, r.PathValue("id"))
			}
			return err
		})
		if err != nil && !errors.Is(err, errUnknown) {
			writeError(w, http.StatusInternalServerError, err.Error())
			return
		}
		p.show(w, r)
	}
}

// void calls off the payment of a charge, or returns the money. A charge that has not arrived yet
// becomes a payment that is canceled already, so that it is not made afterwards.
func (p *provider) void(w http.ResponseWriter, r *http.Request) {
	c, ok := readCharge(w, r)
	if !ok {
		return
	}
	var made payment
	_, err := p.db.ExecContext(r.Context(), `INSERT INTO payments (key, id, paid_for, state, cents) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (key) DO UPDATE SET state = CASE state WHEN ? THEN ? WHEN ? THEN ? ELSE state END`,
		c.Key, idOf(c), c.Order, stateCanceled, c.Cents, stateConfirm, stateCanceled, stateCharged, stateVoided)
	if err == nil {
		made, err = p.payment(r.Context(), "key", c.Key)
	}
	answerPayment(w, made, err)
}

// count returns how often an order was charged, and how many of these charges were voided.
func (p *provider) count(w http.ResponseWriter, r *http.Request) {
	charged, voided, err := p.counts(r.Context(), r.PathValue("order"))
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, map[string]int64{"charged": charged, "voided": voided})
}

func (p *provider) counts(ctx context.Context, order string) (charged, voided int64, err error) {
	err = p.db.QueryRowContext(ctx, `SELECT COUNT(*) FILTER (WHERE state IN (?, ?)), COUNT(*) FILTER (WHERE state = ?)
		FROM payments WHERE paid_for = ?`, stateCharged, stateVoided, stateVoided, order).Scan(&charged, &voided)
	return charged, voided, err
}
