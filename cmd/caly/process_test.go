package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// asProgram in the environment makes this test binary the program itself, race detector included.
const asProgram = "CALY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	kubetest.Main(m)
}

// process is the program under way.
type process struct {
	t         *testing.T
	cmd       *exec.Cmd
	out, errs bytes.Buffer // to be read once it has ended
	ended     chan struct{}
	err       error
}

func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startFile(t, file, env, args...)
}

// startFile starts the program from a file.
func startFile(t *testing.T, file string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(file, args...), ended: make(chan struct{})}
	p.cmd.Env = append([]string{asProgram + "=1", "HOME=" + t.TempDir()}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// end waits for the process and returns its status.
func (p *process) end() int {
	p.t.Helper()
	timer := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.ended
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.t.Fatal(p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
}

func TestExitStatus(t *testing.T) {
	away := "CALY_DATABASE_URL=postgres://u:topsecret@" + nobody(t) + "/db?sslmode=disable"
	for name, tc := range map[string]struct {
		env, args []string
		want      int
		says      string
	}{
		"good":                  {nil, []string{"version"}, 0, ""},
		"unknown command":       {nil, []string{"nonsense"}, 64, `unknown command "nonsense" for "caly"`},
		"unknown flag":          {nil, []string{"migrate", "up", "--nonsense"}, 64, "unknown flag: --nonsense"},
		"environment":           {[]string{"CALY_MAX_UPLOAD_PODS=many"}, []string{"operator"}, 64, "CALY_MAX_UPLOAD_PODS cannot be read as a value of --max-upload-pods (int)"},
		"database away":         {[]string{away}, []string{"migrate", "up"}, 1, "connection refused"},
		"upload without config": {nil, []string{"upload", "--config=/nowhere/config.json"}, 64, "the pod must mount the tenant's Secret there"},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, tc.env, tc.args...)
			code, said := p.end(), p.errs.String()
			if code != tc.want || strings.Count(said, "\n") > 1 || strings.Contains(said, "topsecret") {
				t.Errorf("ends with %d and %q, want %d and one line", code, said, tc.want)
			}
			if tc.says != "" && (!strings.HasPrefix(said, "caly: ") || !strings.Contains(said, tc.says)) {
				t.Errorf("it says %q, want %q", said, tc.says)
			}
		})
	}
}

// kubeconfig is a file with which a program reaches the test's API server.
func kubeconfig(t *testing.T) string {
	t.Helper()
	env := kubetest.Get(t).Config
	c := clientcmdapi.NewConfig()
	c.Clusters["test"] = &clientcmdapi.Cluster{Server: "https://" + strings.TrimPrefix(env.Host, "https://"), CertificateAuthorityData: env.CAData}
	c.AuthInfos["test"] = &clientcmdapi.AuthInfo{ClientCertificateData: env.CertData, ClientKeyData: env.KeyData, Token: env.BearerToken}
	c.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	c.CurrentContext = "test"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*c, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// dataPlanePod is how a data plane that knows the tenant acme/support is started, any number of times.
type dataPlanePod struct {
	t                *testing.T
	public, internal string
	env, args        []string
}

// listConfigs writes the list of tenant configs, as the operator does.
func listConfigs(t *testing.T, ns string, tenants ...string) {
	t.Helper()
	names := map[string]struct{}{}
	for _, id := range tenants {
		names[tenantconfig.SecretName(tenantconfig.PrefixTenant, id)] = struct{}{}
	}
	list := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: tenantconfig.ListSecretName},
		Type:       v1alpha1.SecretTypeTenantConfigList,
		Data:       map[string][]byte{tenantconfig.ListKey: tenantconfig.EncodeList(names)},
	}
	if err := kubetest.Get(t).Client.Create(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

// Further tenants may be given.
func newDataPlanePod(t *testing.T, pg *pgtest.Server, further ...tenantconfig.Tenant) *dataPlanePod {
	t.Helper()
	env := kubetest.Get(t)
	ns := env.NewNamespace(t)
	tenant := tenantconfig.Tenant{Version: tenantconfig.Version, ID: "acme/support",
		AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
		Freshness:          tenantconfig.DefaultFreshness,
		Webhooks: &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{Scheme: tenantconfig.SchemeHMACSHA1,
			Secrets: []tenantconfig.Sensitive{signingSecret}}}}
	for _, tenant := range append(further, tenant) {
		data, err := tenantconfig.EncodeTenant(tenant)
		if err != nil {
			t.Fatal(err)
		}
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns,
			Name: tenantconfig.SecretName(tenantconfig.PrefixTenant, tenant.ID)},
			Type: v1alpha1.SecretTypeTenantConfig, Data: map[string][]byte{tenantconfig.Key: data}}
		if err := env.Client.Create(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
	}
	listConfigs(t, ns)
	d := &dataPlanePod{t: t, public: nobody(t), internal: nobody(t), env: []string{"KUBECONFIG=" + kubeconfig(t), "CALY_DATABASE_URL=" + pg.DataplaneDSN}}
	d.args = []string{"dataplane", "--work-namespace=" + ns, "--listen=" + d.public, "--internal-listen=" + d.internal, "--drain-delay=1s", "--grace=20s"}
	return d
}

func (d *dataPlanePod) start() *process {
	d.t.Helper()
	return start(d.t, d.env, d.args...)
}

func (d *dataPlanePod) ready() bool {
	code, _ := fetch("http://" + d.internal + "/readyz")
	return code == http.StatusOK
}

// servingDataPlane starts a data plane that knows the tenant acme/support.
func servingDataPlane(t *testing.T, pg *pgtest.Server) (p *process, public, internal string) {
	t.Helper()
	d := newDataPlanePod(t, pg)
	p = d.start()
	waitFor(t, "the data plane is not ready", d.ready)
	return p, d.public, d.internal
}

// TestDataPlaneDrains : after SIGTERM a webhook that is half sent is taken to its end, answered 200 and kept.
func TestDataPlaneDrains(t *testing.T) {
	pg := pgtest.New(t)
	p, public, internal := servingDataPlane(t, pg)
	const path = "/webhooks/exotel/acme/support/status"
	fields := exotelsim.Call{SID: "c1"}.Answered()
	if status, _, err := (exotelsim.Sender{Secret: signingSecret}).Send(t.Context(), "http://"+public+path, fields, exotelsim.Form); err != nil {
		t.Fatalf("before the signal: %d, %v", status, err)
	}
	c, half := halfSent(t, public, path)
	p.terminate()
	waitFor(t, "the data plane does not say that it drains", func() bool {
		code, body := fetch("http://" + internal + "/readyz")
		return code == http.StatusServiceUnavailable && bytes.Contains(body, []byte("draining"))
	})
	_, _ = io.WriteString(c, half)
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if answer, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
		t.Errorf("the webhook under way is answered %q, %v", answer, err)
	}
	if code := p.end(); code != 0 {
		t.Errorf("it ends with %d: %s", code, p.errs.String())
	}
	if n := events(t, pg); n != 2 {
		t.Errorf("%d events are kept, want 2", n)
	}
	if said := p.out.String() + p.errs.String(); strings.Contains(said, signingSecret) || strings.Contains(said, "caly-test@") || strings.Contains(said, "panic") {
		t.Errorf("it says %s", said)
	}
}

// TestDataPlaneWithoutDatabase stops PostgreSQL. All pods have the same one: they stay ready and answer 503, instead of
// leaving senders without a pod that takes their connection.
func TestDataPlaneWithoutDatabase(t *testing.T) {
	pg := pgtest.New(t)
	_, public, internal := servingDataPlane(t, pg)
	send := func(sid string) (int, error) {
		sender, call := exotelsim.Sender{Secret: signingSecret}, exotelsim.Call{SID: sid}
		target := "http://" + public + "/webhooks/exotel/acme/support/status"
		status, _, err := sender.Send(t.Context(), target, call.Answered(), exotelsim.Form)
		return status, err
	}
	metrics := func() string { _, body := fetch("http://" + internal + "/metrics"); return string(body) }
	if status, err := send("c1"); status != http.StatusOK || !strings.Contains(metrics(), "caly_database_up 1") {
		t.Fatalf("with a database: %d, %v", status, err)
	}
	pg.StopFast(t)
	for i := range 3 {
		if status, err := send(fmt.Sprint("lost", i)); status != http.StatusServiceUnavailable {
			t.Errorf("without a database: %d, %v", status, err)
		}
		if code, body := fetch("http://" + internal + "/readyz"); code != http.StatusOK {
			t.Errorf("without a database: not ready: %s", body)
		}
		time.Sleep(time.Second)
	}
	if !strings.Contains(metrics(), "caly_database_up 0") {
		t.Error("the metric does not tell that the database is unreachable")
	}
	_, body := fetch("http://" + internal + "/api/monitoring/status")
	if !bytes.Contains(body, []byte(`"reachable": false`)) {
		t.Errorf("the status does not tell that the database is unreachable: %s", body)
	}
	pg.Start(t)
	waitFor(t, "webhooks are not taken again", func() bool { status, _ := send("c2"); return status == http.StatusOK })
}

// TestDataPlaneWithoutConfigs starts a data plane in an empty work namespace.
func TestDataPlaneWithoutConfigs(t *testing.T) {
	ns := kubetest.Get(t).NewNamespace(t)
	d := newDataPlanePod(t, pgtest.New(t))
	d.args[1] = "--work-namespace=" + ns
	d.start()
	answer := func(path string) (status int, retry string) {
		resp, err := http.Get("http://" + d.public + path)
		if err != nil {
			return 0, ""
		}
		_ = resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	paths := []string{
		"/webhooks/exotel/acme/support/status?CallSid=c1",
		"/webhooks/exotel/status?CallSid=c1",
	}
	waitFor(t, "it does not answer", func() bool { status, _ := answer(paths[0]); return status != 0 })
	for range 20 {
		for _, path := range paths {
			if status, retry := answer(path); status != 503 || retry == "" {
				t.Errorf("%s is answered %d, Retry-After %q", path, status, retry)
			}
		}
		if d.ready() {
			t.Error("it is ready")
		}
		time.Sleep(50 * time.Millisecond)
	}
	listConfigs(t, ns)
	waitFor(t, "it is not ready", d.ready)
	if status, _ := answer(paths[0]); status != http.StatusUnauthorized {
		t.Errorf("an unknown tenant is answered %d", status)
	}
}

func hmacSHA1(key string, body []byte) []byte {
	mac := hmac.New(sha1.New, []byte(key))
	_, _ = mac.Write(body) // never fails
	return mac.Sum(nil)
}

func events(t *testing.T, pg *pgtest.Server) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM call_events").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// halfSent is a connection on which all of a webhook but the half that it returns was sent.
func halfSent(t *testing.T, address, path string) (c net.Conn, half string) {
	t.Helper()
	body, contentType, err := exotelsim.Encode(exotelsim.Call{SID: "c2"}.Answered(), exotelsim.Form)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = net.Dial("tcp", address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, err = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nX-Exotel-Signature: %x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		path, contentType, hmacSHA1(signingSecret, body), len(body), body[:len(body)/2])
	if err != nil {
		t.Fatal(err)
	}
	return c, string(body[len(body)/2:])
}

// TestSimulateServerStops : it ends with success when it is told to.
func TestSimulateServerStops(t *testing.T) {
	address := nobody(t)
	p := start(t, nil, "simulate", "server", "--listen="+address)
	waitFor(t, "the server does not answer", func() bool { code, _ := fetch("http://" + address); return code != 0 })
	p.terminate()
	if code := p.end(); code != 0 || !strings.Contains(p.out.String(), "serving recordings at http://"+address) {
		t.Errorf("ends with %d, having printed %q and %q", code, p.out.String(), p.errs.String())
	}
}
