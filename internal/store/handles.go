package store

import "context"

// common has what both the operator and the data plane do: backfill stores events like a webhook, and the command line
// changes users and closes streams like the tenant API.
type common struct{ *base }

// Operator is the database as the operator and its command line use it: the rows of all tenants, and their roles.
type Operator struct{ common }

// Dataplane is the database as the data plane uses it: each transaction is bound to the tenants that it names.
type Dataplane struct{ common }

// Upload is the database as an upload pod uses it: its role sees the recordings of one tenant.
type Upload struct{ *base }

// OpenOperator connects as the operator. It rejects a database whose schema is older or newer than this binary needs
// (ErrSchema), and a role that row-level security would not bind or that would see no row. Errors carry no password.
func OpenOperator(ctx context.Context, dsn string, o Options) (*Operator, error) {
	db, err := open(ctx, dsn, "operator", o)
	if err != nil {
		return nil, err
	}
	return &Operator{common{db}}, nil
}

// OpenDataplane connects as the data plane. It rejects what OpenOperator rejects.
func OpenDataplane(ctx context.Context, dsn string, o Options) (*Dataplane, error) {
	db, err := open(ctx, dsn, "dataplane", o)
	if err != nil {
		return nil, err
	}
	return &Dataplane{common{db}}, nil
}

// OpenUpload connects as an upload pod of one tenant. It rejects what OpenOperator rejects.
func OpenUpload(ctx context.Context, dsn string, o Options) (*Upload, error) {
	db, err := open(ctx, dsn, "upload", o)
	if err != nil {
		return nil, err
	}
	return &Upload{db}, nil
}
