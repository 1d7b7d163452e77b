package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// startsWithin bounds the start of a server or of a pooler.
const startsWithin = 30 * time.Second

// postgres is one server process.
type postgres struct {
	bin, dir string
	port     int
	pooler   string // address through which the programs' roles connect; empty: directly
	attr     *syscall.SysProcAttr
	cmd      *exec.Cmd

	migrateOnce    sync.Once
	migrateFailure error
}

// startShared starts the server of the test binary, which ends with it.
func startShared() (*postgres, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	p, err := prepare(bin)
	if err != nil {
		return nil, err
	}
	if err := p.create(); err != nil {
		return nil, err
	}
	if mode := os.Getenv(poolerVariable); mode != "" {
		// Each test has a database of its own, and so pools of its own.
		p.pooler, _, err = p.pgBouncer(mode, "server_idle_timeout = 1\nmax_client_conn = 1000")
	}
	return p, err
}

// create makes the server's files and roles, and starts it.
func (p *postgres) create() error {
	for _, step := range []func() error{p.initialize, p.run, p.roles} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the folder of a server and finds a port for it.
func prepare(bin string) (p *postgres, err error) {
	p = &postgres{bin: bin}
	// The server ends with the test binary, however that ends.
	p.attr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if p.dir, err = os.MkdirTemp(dataFolder(), "caly-pgtest-"); err != nil {
		return nil, err
	}
	if err := p.asPostgres(); err != nil {
		return nil, err
	}
	if p.port, err = freePort(); err != nil {
		return nil, err
	}
	return p, p.sweep()
}

// memory is Linux's file system in memory.
const memory = "/dev/shm"

// dataFolder returns the folder of all servers: memory with at least 4 GiB free, or that of temporary files. A database
// is hundreds of files. A file system on a disk creates them ten times more slowly while it still knows deleted ones.
func dataFolder() string {
	var room syscall.Statfs_t
	err := syscall.Statfs(memory, &room)
	if free := room.Bavail * uint64(room.Bsize); err != nil || free < 4<<30 { //nolint:gosec // a size is not negative
		return os.TempDir()
	}
	return memory
}

func (p *postgres) initialize() error {
	pwfile := filepath.Join(p.dir, "pw")
	if err := os.WriteFile(pwfile, []byte(password), 0o644); err != nil { //nolint:gosec // a test's password
		return err
	}
	return p.tool(p.bin, "initdb", "-D", filepath.Join(p.dir, "data"), "-U", "postgres", "--pwfile", pwfile,
		"-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8")
}

// tool runs one of PostgreSQL's programs to its end, as the server's user.
func (p *postgres) tool(bin, name string, args ...string) error {
	cmd := exec.Command(filepath.Join(bin, name), args...) //nolint:gosec // arguments of our own
	cmd.SysProcAttr = p.attr
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// sweep starts a child that removes the folder once the test binary has ended, however it did.
func (p *postgres) sweep() error {
	script := `while kill -0 "$0" 2>/dev/null; do sleep 1; done; sleep 1; rm -rf -- "$1"`
	cmd := exec.Command("/bin/sh", "-c", script, strconv.Itoa(os.Getpid()), p.dir) //nolint:gosec // our own folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// asPostgres lets the server run as the user postgres where we are root, which PostgreSQL refuses.
func (p *postgres) asPostgres() error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("PostgreSQL does not run as root, and there is no user postgres: %w", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	p.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // ids are small
	return os.Chown(p.dir, uid, gid)
}

func (p *postgres) run() error {
	// A file, not a buffer: that would need a goroutine, which tests that look for leaks would find.
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	//nolint:gosec // arguments of our own
	p.cmd = exec.Command(filepath.Join(p.bin, "postgres"), "-D", filepath.Join(p.dir, "data"),
		"-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1,::1", "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=300")
	p.cmd.SysProcAttr = p.attr
	p.cmd.Dir = p.dir
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	ready := func(ctx context.Context) error { return p.exec(ctx, "SELECT 1") }
	if err := eventually.Within(startsWithin).Try(context.Background(), ready); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("not ready after %s: %w: %s", startsWithin, err, said)
	}
	return nil
}

func (p *postgres) stop(how syscall.Signal) error {
	if err := p.cmd.Process.Signal(how); err != nil {
		return err
	}
	_ = p.cmd.Wait() // an immediate shutdown ends with a status of its own
	return nil
}

// exec runs statements as the superuser, each in a transaction of its own.
func (p *postgres) exec(ctx context.Context, statements ...string) error {
	dsn := fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres?sslmode=disable", password, p.port)
	return execOn(ctx, dsn, statements...)
}

func execOn(ctx context.Context, dsn string, statements ...string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// binariesVariable is the environment variable with the folder of initdb and postgres that tests use.
const binariesVariable = "CALY_TEST_POSTGRES"

// binaries is the folder of initdb and postgres: the chosen one, on the PATH, or where Debian puts them.
func binaries() (string, error) {
	if chosen := os.Getenv(binariesVariable); chosen != "" {
		return chosen, nil
	}
	return debianBinaries()
}

// debianBinaries is the folder of all of PostgreSQL's programs, pg_dump and pg_basebackup too.
func debianBinaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		path, err = filepath.EvalSymlinks(path) // only some of the programs may be linked there
		return filepath.Dir(path), err
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", fmt.Errorf("initdb is neither on the PATH nor in /usr/lib/postgresql")
	}
	return filepath.Dir(found[len(found)-1]), nil
}
