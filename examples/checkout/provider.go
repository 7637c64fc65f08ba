package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// The tokens with which a payment can be tried out, like a card network's test cards.
const (
	tokenOK       = "pm_ok"
	tokenDecline  = "pm_decline"
	token3DS      = "pm_3ds"                  // the customer has to confirm first
	tokenTimeout  = "pm_timeout_after_charge" // charged, but the answer does not come
	tokenCrash    = "pm_crash_after_charge"   // charged, and then the shop's process dies, once
	stateRefused  = "declined"
	stateConfirm  = "requires_action"
	stateCharged  = "authorized"
	stateReturned = "voided"
)

// provider stands for a payment provider: a service of its own, with a memory of its own, that knows idempotency keys and refuses
// fences that are older than one it has seen.
type provider struct {
	db *sql.DB
	// silence is how long an answer that does not come is waited for.
	silence time.Duration
}

// payment is what the provider knows of one.
type payment struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Cents int64  `json:"cents"`
}

// charge is what the shop asks for.
type charge struct {
	Key   string `json:"key"`
	Fence int64  `json:"fence"`
	Order string `json:"order"` // what is paid for
	Token string `json:"token"`
	Cents int64  `json:"cents"`
}

const ledger = `
CREATE TABLE IF NOT EXISTS payments (key TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, paid_for TEXT NOT NULL, state TEXT NOT NULL,
  cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS fences (paid_for TEXT PRIMARY KEY, fence INTEGER NOT NULL);
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
	mux.HandleFunc("GET /payments/by-key/{key}", p.show("key"))
	mux.HandleFunc("GET /payments/{id}", p.show("id"))
	mux.HandleFunc("POST /payments/{id}/confirm", p.turn(stateConfirm, stateCharged))
	mux.HandleFunc("POST /payments/{id}/void", p.turn("", stateReturned))
	mux.HandleFunc("GET /charges/{order}", p.count)
	return mux
}

// errOldFence says that a newer worker has been here.
var errOldFence = errors.New("a newer worker has asked already")

func (p *provider) create(w http.ResponseWriter, r *http.Request) {
	var c charge
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil || c.Key == "" || c.Cents <= 0 {
		writeError(w, http.StatusBadRequest, "a charge needs a key and cents")
		return
	}
	made, err := p.charge(r.Context(), c)
	switch {
	case errors.Is(err, errOldFence):
		writeError(w, http.StatusConflict, err.Error())
		return
	case err != nil:
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	if c.Token == tokenTimeout {
		select { // it is charged, and nobody is told
		case <-time.After(p.silence):
		case <-r.Context().Done():
		}
		return
	}
	writeJSON(w, http.StatusOK, made)
}

// charge makes a payment, or finds the one that the same key has made.
func (p *provider) charge(ctx context.Context, c charge) (made payment, err error) {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return made, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	var seen int64
	err = tx.QueryRowContext(ctx, "SELECT fence FROM fences WHERE paid_for = ?", c.Order).Scan(&seen)
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return made, err
	case c.Fence < seen:
		return made, errOldFence
	}
	if _, err = tx.ExecContext(ctx, "INSERT INTO fences VALUES (?, ?) ON CONFLICT (paid_for) DO UPDATE SET fence = excluded.fence", c.Order,
		c.Fence); err != nil {
		return made, err
	}
	state := stateCharged
	switch c.Token {
	case tokenDecline:
		state = stateRefused
	case token3DS:
		state = stateConfirm
	}
	if _, err = tx.ExecContext(ctx, "INSERT INTO payments VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING", c.Key,
		"pay_"+c.Key, c.Order, state, c.Cents); err != nil {
		return made, err
	}
	if err = tx.QueryRowContext(ctx, "SELECT id, state, cents FROM payments WHERE key = ?", c.Key).Scan(&made.ID, &made.State, &made.Cents); err != nil {
		return made, err
	}
	return made, tx.Commit()
}

// show answers with the payment whose column has the value in the path.
func (p *provider) show(column string) http.HandlerFunc {
	query := "SELECT id, state, cents FROM payments WHERE " + column + " = ?"
	return func(w http.ResponseWriter, r *http.Request) {
		var found payment
		err := p.db.QueryRowContext(r.Context(), query, r.PathValue(column)).Scan(&found.ID, &found.State, &found.Cents)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			writeError(w, http.StatusNotFound, "there is no such payment")
		case err != nil:
			writeError(w, http.StatusInternalServerError, err.Error())
		default:
			writeJSON(w, http.StatusOK, found)
		}
	}
}

// turn moves a payment from one state to another; from "" is from any. A second time changes nothing.
func (p *provider) turn(from, to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, err := p.db.ExecContext(r.Context(), "UPDATE payments SET state = ? WHERE id = ? AND (state = ? OR ? = '')", to,
			r.PathValue("id"), from, from)
		if err != nil {
			writeError(w, http.StatusInternalServerError, err.Error())
			return
		}
		p.show("id")(w, r)
	}
}

// count tells how often something was charged, and how much of that was given back.
func (p *provider) count(w http.ResponseWriter, r *http.Request) {
	charged, returned, err := p.counts(r.Context(), r.PathValue("order"))
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, map[string]int64{"charged": charged, "voided": returned})
}

func (p *provider) counts(ctx context.Context, order string) (charged, returned int64, err error) {
	err = p.db.QueryRowContext(ctx, `SELECT COUNT(*) FILTER (WHERE state IN (?, ?)), COUNT(*) FILTER (WHERE state = ?)
		FROM payments WHERE paid_for = ?`, stateCharged, stateReturned, stateReturned, order).Scan(&charged, &returned)
	return charged, returned, err
}
