package main

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/redisidem/redisidem/contrib/sqlidem"
)

// shop is the shop's own data: carts, their items, and their orders. Methods that get a transaction
// are the work of stages. The store runs that transaction, and its effects happen once.
type shop struct {
	db    *sql.DB
	store *sqlidem.Store
}

// A cart has at most one holder: the idempotency key that completes it. An order keeps the cart for
// ever. The statements are those that PostgreSQL and SQLite have in common.
const schema = `
CREATE TABLE IF NOT EXISTS products (variant TEXT PRIMARY KEY, cents BIGINT NOT NULL, stock BIGINT NOT NULL CHECK (stock >= 0));
CREATE TABLE IF NOT EXISTS carts (id TEXT PRIMARY KEY, payment_token TEXT NOT NULL DEFAULT '', holder TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS items (cart TEXT NOT NULL, variant TEXT NOT NULL, cents BIGINT NOT NULL, quantity BIGINT NOT NULL,
  PRIMARY KEY (cart, variant));
CREATE TABLE IF NOT EXISTS tax_lines (cart TEXT PRIMARY KEY, cents BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, cart TEXT NOT NULL UNIQUE, payment TEXT NOT NULL, cents BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS mails (event BIGINT PRIMARY KEY, cart TEXT NOT NULL, text TEXT NOT NULL);
INSERT INTO products VALUES ('book', 1900, 1000000), ('lamp', 4200, 1000000), ('unicorn', 9900, 0) ON CONFLICT DO NOTHING;
`

// What keeps the shop from doing something.
var (
	errUnknown       = errors.New("there is no such thing")
	errEmpty         = errors.New("the cart is empty")
	errNoSession     = errors.New("the cart has no payment session")
	errCompleting    = errors.New("the cart is being completed, or has been")
	errNotCompleting = errors.New("the cart is not being completed")
	errTooLate       = errors.New("it is too late: the cart has its answer")
	errSoldOut       = errors.New("there is not enough left of something in the cart")
)

// openShop opens the database at that URL, or else in a file of the folder.
func openShop(ctx context.Context, url, folder string) (s *shop, err error) {
	s = &shop{}
	dialect := sqlidem.PostgreSQL
	if url == "" {
		dialect = sqlidem.SQLite
		s.db, err = openSQLite(ctx, filepath.Join(folder, "shop.db"), schema)
	} else {
		s.db, err = openPostgres(ctx, url, schema)
	}
	if err != nil {
		return nil, err
	}
	if s.store, err = sqlidem.New(s.db, sqlidem.Config{Dialect: dialect}); err == nil {
		err = s.store.Migrate(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *shop) close() error { return s.db.Close() }

func (s *shop) createCart(ctx context.Context) (string, error) {
	id := "cart_" + uuid.NewString()
	_, err := s.db.ExecContext(ctx, "INSERT INTO carts (id) VALUES ($1)", id)
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
	for _, card := range testCards {
		c.Sessions = append(c.Sessions, session{card, "pending"})
	}
	var token string
	if err := found(s.db.QueryRowContext(ctx, "SELECT payment_token FROM carts WHERE id = $1", id).Scan(&token)); err != nil {
		return c, err
	}
	if token != "" {
		c.Session = &session{token, "pending"}
	}
	rows, err := s.db.QueryContext(ctx, "SELECT variant, cents, quantity FROM items WHERE cart = $1 ORDER BY variant", id)
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
		if err := found(tx.QueryRowContext(ctx, "SELECT cents FROM products WHERE variant = $1", variant).Scan(&cents)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO items (cart, variant, cents, quantity) VALUES ($1, $2, $3, $4)
			ON CONFLICT (cart, variant) DO UPDATE SET cents = excluded.cents, quantity = excluded.quantity`, cart, variant, cents, quantity)
		return err
	})
}

// choosePayment says how a cart is to be paid for.
func (s *shop) choosePayment(ctx context.Context, cart, token string) error {
	return s.change(ctx, cart, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE carts SET payment_token = $1 WHERE id = $2", token, cart)
		return err
	})
}

// change changes a cart, unless it has a holder: what is charged for must stay what it was.
func (s *shop) change(ctx context.Context, cart string, work func(tx *sql.Tx) error) error {
	return transact(ctx, s.db, func(tx *sql.Tx) error {
		switch holder, _, err := lockCart(ctx, tx, cart); {
		case err != nil:
			return err
		case holder != "":
			return errCompleting
		}
		return work(tx)
	})
}

// lockCart locks a cart until the end of the transaction, and returns its holder and its token.
func lockCart(ctx context.Context, tx *sql.Tx, id string) (holder, token string, err error) {
	err = tx.QueryRowContext(ctx, "UPDATE carts SET id = id WHERE id = $1 RETURNING holder, payment_token", id).Scan(&holder, &token)
	return holder, token, found(err)
}

// holder returns the key that completes a cart, or has completed it. Without one it returns
// errNotCompleting.
func (s *shop) holder(ctx context.Context, cart string) (key string, err error) {
	err = found(s.db.QueryRowContext(ctx, "SELECT holder FROM carts WHERE id = $1", cart).Scan(&key))
	if err == nil && key == "" {
		err = errNotCompleting
	}
	return key, err
}

// hold makes a key the holder of a cart, makes the tax line, and returns the cart's token and what
// it costs with the tax. If the cart has another holder it returns that one, and changes nothing.
func (s *shop) hold(ctx context.Context, tx *sql.Tx, cart, key string) (holder, token string, cents int64, err error) {
	holder, token, err = lockCart(ctx, tx, cart)
	if err != nil || holder != "" && holder != key {
		return holder, "", 0, err
	}
	err = tx.QueryRowContext(ctx, "SELECT CAST(COALESCE(SUM(cents * quantity), 0) AS BIGINT) FROM items WHERE cart = $1", cart).Scan(&cents)
	switch {
	case err != nil:
		return "", "", 0, err
	case cents == 0:
		return "", "", 0, errEmpty
	case token == "":
		return "", "", 0, errNoSession
	}
	if _, err := tx.ExecContext(ctx, "UPDATE carts SET holder = $1 WHERE id = $2", key, cart); err != nil {
		return "", "", 0, err
	}
	tax := cents * 19 / 100
	_, err = tx.ExecContext(ctx, "INSERT INTO tax_lines (cart, cents) VALUES ($1, $2) ON CONFLICT (cart) DO UPDATE SET cents = excluded.cents", cart, tax)
	return key, token, cents + tax, err
}

// release undoes hold: the cart can be changed, and completed under another key. It leaves a cart
// alone that the key does not hold, or that has its order.
func (s *shop) release(ctx context.Context, tx *sql.Tx, cart, key string) error {
	holder, _, err := lockCart(ctx, tx, cart)
	if err != nil || holder != key {
		return err
	}
	if _, err := orderOf(ctx, tx, cart); !errors.Is(err, errUnknown) {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE carts SET holder = '' WHERE id = $1", cart); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM tax_lines WHERE cart = $1", cart)
	return err
}

// order is a completed cart.
type order struct {
	ID      string `json:"id"`
	Cart    string `json:"cart_id"`
	Payment string `json:"payment_id"`
	Cents   int64  `json:"total"`
}

// createOrder makes the order of a cart and takes what is in it off the stock.
func (s *shop) createOrder(ctx context.Context, tx *sql.Tx, cart, payment string, cents int64) (order, error) {
	o := order{ID: "order_" + strings.TrimPrefix(cart, "cart_"), Cart: cart, Payment: payment, Cents: cents}
	r, err := tx.ExecContext(ctx, `UPDATE products SET stock = stock - items.quantity FROM items
		WHERE items.cart = $1 AND items.variant = products.variant AND NOT EXISTS (SELECT 1 FROM items JOIN products USING (variant)
		WHERE items.cart = $1 AND products.stock < items.quantity)`, cart)
	if err != nil {
		return o, err
	}
	if taken, err := r.RowsAffected(); err != nil || taken == 0 {
		return o, errors.Join(err, errSoldOut)
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO orders (id, cart, payment, cents) VALUES ($1, $2, $3, $4)", o.ID, o.Cart, o.Payment, o.Cents)
	return o, err
}

// querier is a database, or a transaction of one.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// orderOf finds the order of a cart. It returns errUnknown if the cart has no order.
func orderOf(ctx context.Context, q querier, cart string) (order, error) {
	o := order{Cart: cart}
	err := q.QueryRowContext(ctx, "SELECT id, payment, cents FROM orders WHERE cart = $1", cart).Scan(&o.ID, &o.Payment, &o.Cents)
	return o, found(err)
}

// sendMail stands for sending one. The same event is sent once.
func (s *shop) sendMail(ctx context.Context, event int64, cart, text string) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO mails (event, cart, text) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", event, cart, text)
	return err
}

// counts returns how many rows of each kind there are for a cart: for those who want to see that
// nothing happened twice.
func (s *shop) counts(ctx context.Context, cart string) (map[string]int64, error) {
	var taxLines, orders, mails int64
	err := s.db.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM tax_lines WHERE cart = $1), (SELECT COUNT(*) FROM orders WHERE cart = $1),
		(SELECT COUNT(*) FROM mails WHERE cart = $1)`, cart).Scan(&taxLines, &orders, &mails)
	return map[string]int64{"tax_lines": taxLines, "orders": orders, "mails": mails}, err
}
