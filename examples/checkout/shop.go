package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the driver
)

// shop is the shop's own data: carts, their items, and their orders. A stage can run twice, so each
// of its changes can be made twice. A change is refused if a later worker has taken over, because
// SQLite does not see the leases in Redis.
type shop struct{ db *sql.DB }

// An idempotency key makes one request safe. The shop's own rule is that a cart is paid once, even
// by a client that makes another key for each attempt. Table completions enforces it: a cart has at
// most one open completion, and an order leaves it open for ever. While one waits for the customer
// to confirm its payment, another key may take it over.
const schema = `
CREATE TABLE IF NOT EXISTS products (variant TEXT PRIMARY KEY, cents INTEGER NOT NULL, stock INTEGER NOT NULL CHECK (stock >= 0));
CREATE TABLE IF NOT EXISTS carts (id TEXT PRIMARY KEY, payment_token TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS items (cart TEXT NOT NULL, variant TEXT NOT NULL, cents INTEGER NOT NULL, quantity INTEGER NOT NULL,
  PRIMARY KEY (cart, variant));
CREATE TABLE IF NOT EXISTS completions (cart TEXT NOT NULL, key TEXT NOT NULL, fence INTEGER NOT NULL, open INTEGER NOT NULL,
  payment TEXT NOT NULL DEFAULT '', waiting INTEGER NOT NULL DEFAULT FALSE, PRIMARY KEY (cart, key));
CREATE UNIQUE INDEX IF NOT EXISTS completion_open ON completions (cart) WHERE open;
CREATE TABLE IF NOT EXISTS tax_lines (cart TEXT PRIMARY KEY, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, cart TEXT NOT NULL UNIQUE, payment TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS mails (event TEXT PRIMARY KEY, cart TEXT NOT NULL, text TEXT NOT NULL);
INSERT INTO products VALUES ('book', 1900, 1000000), ('lamp', 4200, 1000000), ('unicorn', 9900, 0) ON CONFLICT DO NOTHING;
`

// What keeps the shop from doing something.
var (
	errUnknown    = errors.New("there is no such thing")
	errEmpty      = errors.New("the cart is empty")
	errNoSession  = errors.New("the cart has no payment session")
	errCompleting = errors.New("the cart is being completed, or has been")
	errSoldOut    = errors.New("there is not enough left of something in the cart")
	errSuperseded = errors.New("a later worker has taken over")
)

// openShop opens the database in that file, which several processes may share, and makes what it
// lacks.
func openShop(ctx context.Context, file string) (*shop, error) {
	db, err := openSQLite(ctx, file, schema)
	return &shop{db}, err
}

// openSQLite opens a database. Transactions take the write lock when they begin. A transaction that
// reads first and then finds another write cannot continue.
func openSQLite(ctx context.Context, file, schema string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+file+
		"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // SQLite has one writer anyway
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), db.Close())
	}
	return db, nil
}

// transact runs work in a transaction, and commits it if work returns nil.
func transact(ctx context.Context, db *sql.DB, work func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		if undo := tx.Rollback(); !errors.Is(undo, sql.ErrTxDone) { // which is what it is when ctx has ended
			err = errors.Join(err, undo)
		}
		return err
	}
	return tx.Commit()
}

// found turns the absence of a row into an error of the shop's.
func found(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return errUnknown
	}
	return err
}

func (s *shop) close() error { return s.db.Close() }

func (s *shop) createCart(ctx context.Context) (string, error) {
	id := "cart_" + uuid.NewString()
	_, err := s.db.ExecContext(ctx, "INSERT INTO carts (id) VALUES (?)", id)
	return id, err
}

// cart is a cart as clients see it.
type cart struct {
	ID       string    `json:"id"`
	Items    []item    `json:"items"`
	Sessions []session `json:"payment_sessions"`
	Session  *session  `json:"payment_session"` // the chosen one
}

type item struct {
	ID       string `json:"id"`
	Cart     string `json:"cart_id"`
	Variant  string `json:"variant_id"`
	Cents    int64  `json:"unit_price"`
	Quantity int64  `json:"quantity"`
}

// session is a way to pay: each test card of the provider's stands for one.
type session struct {
	Provider string `json:"provider_id"`
	Status   string `json:"status"`
}

// cart finds a cart.
func (s *shop) cart(ctx context.Context, id string) (c cart, err error) {
	c = cart{ID: id, Items: []item{}}
	token, err := s.paymentToken(ctx, id)
	if err != nil {
		return c, err
	}
	for _, card := range testCards {
		c.Sessions = append(c.Sessions, session{card, "pending"})
	}
	if token != "" {
		c.Session = &session{token, "pending"}
	}
	rows, err := s.db.QueryContext(ctx, "SELECT variant, cents, quantity FROM items WHERE cart = ? ORDER BY rowid", id)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		i := item{Cart: id}
		if err := rows.Scan(&i.Variant, &i.Cents, &i.Quantity); err != nil {
			return c, err
		}
		i.ID = "item_" + i.Variant
		c.Items = append(c.Items, i)
	}
	return c, rows.Err()
}

// addItem puts so many of something into a cart.
func (s *shop) addItem(ctx context.Context, cart, variant string, quantity int64) error {
	return s.change(ctx, cart, func(tx *sql.Tx) error {
		var cents int64
		if err := found(tx.QueryRowContext(ctx, "SELECT cents FROM products WHERE variant = ?", variant).Scan(&cents)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO items (cart, variant, cents, quantity) VALUES (?, ?, ?, ?)
			ON CONFLICT (cart, variant) DO UPDATE SET cents = excluded.cents, quantity = excluded.quantity`, cart, variant, cents, quantity)
		return err
	})
}

// choosePayment says how a cart is to be paid for.
func (s *shop) choosePayment(ctx context.Context, cart, token string) error {
	return s.change(ctx, cart, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE carts SET payment_token = ? WHERE id = ?", token, cart)
		return err
	})
}

// change changes a cart, unless it is being completed: what is charged for must stay what it was.
func (s *shop) change(ctx context.Context, cart string, work func(tx *sql.Tx) error) error {
	return transact(ctx, s.db, func(tx *sql.Tx) error {
		var open bool
		err := found(tx.QueryRowContext(ctx,
			"SELECT EXISTS (SELECT 1 FROM completions WHERE cart = carts.id AND open) FROM carts WHERE id = ?", cart).Scan(&open))
		switch {
		case err != nil:
			return err
		case open:
			return errCompleting
		}
		return work(tx)
	})
}

// completion identifies the worker to the database: the cart, the idempotency key under which it is
// completed, and the worker's fence. The fence is greater than those of earlier workers with this
// key.
type completion struct {
	cart, key string
	fence     int64
}

// begin opens a cart's completion, makes the tax line, and returns what the cart costs with it, and
// the payment that the customer was asked to confirm, if there is one. A completion under another
// key that waits for the customer is taken over, with its payment. It is errCompleting when the
// cart is being worked on under another key, or completed.
func (s *shop) begin(ctx context.Context, c completion) (cents int64, payment string, err error) {
	err = transact(ctx, s.db, func(tx *sql.Tx) error {
		var token string
		var working bool
		err := found(tx.QueryRowContext(ctx, `SELECT payment_token,
			(SELECT COALESCE(SUM(cents * quantity), 0) FROM items WHERE cart = carts.id),
			EXISTS (SELECT 1 FROM completions WHERE cart = carts.id AND open AND key <> ? AND NOT waiting),
			COALESCE((SELECT payment FROM completions WHERE cart = carts.id AND open), '')
			FROM carts WHERE id = ?`, c.key, c.cart).Scan(&token, &cents, &working, &payment))
		switch {
		case err != nil:
			return err
		case working:
			return errCompleting
		case cents == 0:
			return errEmpty
		case token == "":
			return errNoSession
		}
		tax := cents * 19 / 100
		cents += tax
		if _, err := tx.ExecContext(ctx, "UPDATE completions SET open = FALSE WHERE cart = ? AND key <> ?", c.cart, c.key); err != nil {
			return err
		}
		if err := fenced(changed(tx.ExecContext(ctx, `INSERT INTO completions (cart, key, fence, open, payment) VALUES (?, ?, ?, TRUE, ?)
			ON CONFLICT (cart, key) DO UPDATE SET fence = excluded.fence, open = TRUE, payment = excluded.payment, waiting = FALSE
			WHERE fence <= excluded.fence`, c.cart, c.key, c.fence, payment))); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO tax_lines (cart, cents) VALUES (?, ?) ON CONFLICT (cart) DO UPDATE SET cents = excluded.cents",
			c.cart, tax)
		return err
	})
	return cents, payment, err
}

// await notes that the completion waits for the customer to confirm a payment: from now on another
// key may go on with it.
func (s *shop) await(ctx context.Context, c completion, payment string) error {
	return fenced(changed(s.db.ExecContext(ctx, `UPDATE completions SET fence = ?, payment = ?, waiting = TRUE
		WHERE cart = ? AND key = ? AND open AND fence <= ?`, c.fence, payment, c.cart, c.key, c.fence)))
}

// release undoes begin: the cart can be changed, and completed under another key.
func (s *shop) release(ctx context.Context, c completion) error {
	return transact(ctx, s.db, func(tx *sql.Tx) error {
		if err := enter(ctx, tx, c); err != nil {
			return err
		}
		err := changed(tx.ExecContext(ctx, "UPDATE completions SET open = FALSE WHERE cart = ? AND key = ? AND open", c.cart, c.key))
		switch {
		case errors.Is(err, errNothing):
			return nil // it is released already, and another key may have the cart
		case err != nil:
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM tax_lines WHERE cart = ?", c.cart)
		return err
	})
}

// enter makes the database refuse earlier workers from now on, and refuses this one if a later one
// was here.
func enter(ctx context.Context, tx *sql.Tx, c completion) error {
	return fenced(changed(tx.ExecContext(ctx, "UPDATE completions SET fence = ? WHERE cart = ? AND key = ? AND fence <= ?",
		c.fence, c.cart, c.key, c.fence)))
}

// errNothing says that a statement has changed nothing.
var errNothing = errors.New("nothing was changed")

func changed(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		err = errNothing
	}
	return err
}

// fenced is for statements that change nothing when a later worker has left its fence.
func fenced(err error) error {
	if errors.Is(err, errNothing) {
		return errSuperseded
	}
	return err
}

// paymentToken returns how a cart is to be paid for.
func (s *shop) paymentToken(ctx context.Context, cart string) (token string, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT payment_token FROM carts WHERE id = ?", cart).Scan(&token)
	return token, found(err)
}

// order is a completed cart.
type order struct {
	ID      string `json:"id"`
	Cart    string `json:"cart_id"`
	Payment string `json:"payment_id"`
	Cents   int64  `json:"total"`
}

// orderOf finds the order of a cart. It returns errUnknown if the cart has no order.
func (s *shop) orderOf(ctx context.Context, cart string) (order, error) {
	return queryOrder(ctx, s.db, cart)
}

// querier is a database, or a transaction of one.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func queryOrder(ctx context.Context, q querier, cart string) (order, error) {
	o := order{Cart: cart}
	err := q.QueryRowContext(ctx, "SELECT id, payment, cents FROM orders WHERE cart = ?", cart).Scan(&o.ID, &o.Payment, &o.Cents)
	return o, found(err)
}

// createOrder makes the order of a cart and takes what is in it off the stock, or finds the order
// that an earlier run of the stage made. When something is sold out it leaves the fence behind all
// the same, so that an earlier worker that is late does not make the order of a payment that is
// being voided.
func (s *shop) createOrder(ctx context.Context, c completion, payment string, cents int64) (o order, err error) {
	soldOut := false
	err = transact(ctx, s.db, func(tx *sql.Tx) error {
		if err := enter(ctx, tx, c); err != nil {
			return err
		}
		if o, err = queryOrder(ctx, tx, c.cart); !errors.Is(err, errUnknown) {
			return err
		}
		err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM items JOIN products USING (variant)
			WHERE items.cart = ? AND products.stock < items.quantity)`, c.cart).Scan(&soldOut)
		if err != nil || soldOut {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE products SET stock = stock - items.quantity FROM items
			WHERE items.cart = ? AND items.variant = products.variant`, c.cart); err != nil {
			return err
		}
		o = order{ID: "order_" + strings.TrimPrefix(c.cart, "cart_"), Cart: c.cart, Payment: payment, Cents: cents}
		_, err = tx.ExecContext(ctx, "INSERT INTO orders (id, cart, payment, cents) VALUES (?, ?, ?, ?)", o.ID, o.Cart, o.Payment, o.Cents)
		return err
	})
	if err == nil && soldOut {
		err = errSoldOut
	}
	return o, err
}

// sendMail stands for sending one. The same event is sent once.
func (s *shop) sendMail(ctx context.Context, event, cart, text string) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO mails (event, cart, text) VALUES (?, ?, ?) ON CONFLICT (event) DO NOTHING", event, cart, text)
	return err
}

// counts returns how many rows of each kind there are for a cart: for those who want to see that
// nothing happened twice.
func (s *shop) counts(ctx context.Context, cart string) (map[string]int64, error) {
	var taxLines, orders, mails int64
	err := s.db.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM tax_lines WHERE cart = ?1), (SELECT COUNT(*) FROM orders WHERE cart = ?1),
		(SELECT COUNT(*) FROM mails WHERE cart = ?1)`, cart).Scan(&taxLines, &orders, &mails)
	return map[string]int64{"tax_lines": taxLines, "orders": orders, "mails": mails}, err
}
