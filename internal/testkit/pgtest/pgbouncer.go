package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// bouncerConfig is what PgBouncer needs; everything else is its default. It reads the verifiers of all roles from
// PostgreSQL, since roles of tenants come and go.
const bouncerConfig = `[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
auth_user = postgres
pool_mode = %s
%s
`

// poolerVariable is the environment variable with the pool mode of a PgBouncer through which the programs' roles reach
// the shared server; empty: directly.
const poolerVariable = "CALY_TEST_POOLER"

// PgBouncer starts Debian's PgBouncer in front of the server, with the default settings but for the pool mode and the
// extra lines. It returns its address. It ends with the test.
func (s *Server) PgBouncer(t testing.TB, mode, extra string) (address string) {
	t.Helper()
	address, cmd, err := s.pg.pgBouncer(mode, extra)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return address
}

// PgBouncerVersion returns the version of the PgBouncer on the PATH: 118 for 1.18.0.
func PgBouncerVersion(t testing.TB) (version int) {
	t.Helper()
	out, err := exec.Command("pgbouncer", "--version").Output()
	if err != nil {
		t.Fatalf("PgBouncer is missing (apt-get install pgbouncer): %v", err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "PgBouncer %d.%d.", &major, &minor); err != nil {
		t.Fatalf("%q is not a version of PgBouncer: %v", out, err)
	}
	return 100*major + minor
}

func (p *postgres) pgBouncer(mode, extra string) (address string, cmd *exec.Cmd, err error) {
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		return "", nil, fmt.Errorf("PgBouncer is missing (apt-get install pgbouncer): %w", err)
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp(p.dir, "pgbouncer-")
	if err != nil {
		return "", nil, err
	}
	users := filepath.Join(dir, "users.txt")
	config := filepath.Join(dir, "pgbouncer.ini")
	if err := errors.Join(
		os.Chmod(dir, 0o755), //nolint:gosec // PgBouncer runs as another user
		write(users, fmt.Sprintf("%q %[2]q\n%[3]q %[2]q\n", "postgres", password, "pgbouncer")),
		write(config, fmt.Sprintf(bouncerConfig, p.port, port, users, mode, extra)),
	); err != nil {
		return "", nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = log.Close() }()
	cmd = exec.Command(bin, config) //nolint:gosec // a test's program
	cmd.SysProcAttr = p.attr
	cmd.Dir = dir
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	address = "127.0.0.1:" + strconv.Itoa(port)
	return address, cmd, await(address, log.Name())
}

// await waits until something accepts connections at the address.
func await(address, log string) error {
	accepts := func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	if err := eventually.Within(startsWithin).Try(context.Background(), accepts); err != nil {
		said, _ := os.ReadFile(log) //nolint:gosec // our own file
		return fmt.Errorf("%s does not answer: %w: %s", address, err, said)
	}
	return nil
}

func write(file, text string) error {
	return os.WriteFile(file, []byte(text), 0o644) //nolint:gosec // a test's file, which another user reads
}
