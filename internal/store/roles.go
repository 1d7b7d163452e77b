package store

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caly-dev/caly/internal/dbconn"
)

// scramIterations is PostgreSQL's own default.
const scramIterations = 4096

// EnsureUploadRole makes the login role of a tenant's upload pods, or gives it a new password, and returns its name.
// PostgreSQL is sent a SCRAM verifier: the password is in no statement and so in no log.
func (d *Operator) EnsureUploadRole(ctx context.Context, tenant, password string) (role string, err error) {
	verifier, err := scramVerifier(password)
	if err != nil {
		return "", err
	}
	err = d.pool.QueryRow(ctx, `SELECT caly_ensure_upload_role($1, $2)`, tenant, verifier).Scan(&role)
	return role, explainRole(err)
}

// explainRole says what to do when the owner of the database may not change a role.
func explainRole(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == dbconn.InsufficientPrivilege {
		return &ServerError{
			Code: pg.Code,
			Message: dbconn.Says(pg) + "; run \"caly migrate up\", which repairs the " +
				"roles or names the statement that an administrator has to run",
		}
	}
	return explain(err)
}

// RepairRoles repairs memberships and settings of the roles where the database's owner may do that, and returns a
// sentence for each thing that an administrator has to do. It is the operator's.
func (d *Operator) RepairRoles(ctx context.Context) (problems []string, err error) {
	rows, err := d.pool.Query(ctx, `SELECT caly_repair_roles()`)
	if err != nil {
		return nil, explain(err)
	}
	problems, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return problems, explain(err)
}

// ConnectionsOfUploadPod bounds the connections that one upload pod opens.
const ConnectionsOfUploadPod = 2

// LimitUploadRole bounds the connections of a tenant's upload role to what that number of pods needs. The pods of a
// Job's successor may start while those of the Job end, and a few connections are left over. It changes nothing for a
// tenant that has no role.
func (d *Operator) LimitUploadRole(ctx context.Context, tenant string, pods int) error {
	connections := 2*pods*ConnectionsOfUploadPod + 4*ConnectionsOfUploadPod
	_, err := d.pool.Exec(ctx, `SELECT caly_limit_upload_role($1, $2)`, tenant, connections)
	return explainRole(err)
}

// DropUploadRole removes the role; connections that it still has see no rows from then on.
func (d *Operator) DropUploadRole(ctx context.Context, tenant string) error {
	_, err := d.pool.Exec(ctx, `SELECT caly_drop_upload_role($1)`, tenant)
	return explainRole(err)
}

// scramVerifier is what PostgreSQL stores of a password (RFC 5803). The password must be ASCII: SASLprep is not applied.
func scramVerifier(password string) (string, error) {
	for _, r := range password {
		if r < 0x20 || r > 0x7e {
			return "", fmt.Errorf("a database password must be printable ASCII")
		}
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		return "", err
	}
	client := sum(salted, "Client Key")
	server := sum(salted, "Server Key")
	stored := sha256.Sum256(client)
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, b64(salt), b64(stored[:]), b64(server)), nil
}

// sum returns the HMAC-SHA256 of text.
func sum(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
