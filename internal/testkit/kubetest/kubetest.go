// Package kubetest gives tests a real kube-apiserver with Caly's CRDs: one for each test binary, and namespaces of its own
// for each test.
package kubetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/caly-dev/caly/api/v1alpha1"
)

var shared *Env

// Env is a running API server. It runs no controllers, so nothing acts but what the test starts.
type Env struct {
	Config *rest.Config
	Client client.WithWatch
	Scheme *kruntime.Scheme

	server *envtest.Environment
}

// User returns the configuration of a client with a certificate of the cluster's client authority. The user has no
// rights but those of its groups.
func (e *Env) User(t testing.TB, name string, groups ...string) *rest.Config {
	t.Helper()
	user, err := e.server.AddUser(envtest.User{Name: name, Groups: groups}, nil)
	if err != nil {
		t.Fatalf("make the user %s: %v", name, err)
	}
	return user.Config()
}

// Main starts the API server, runs the tests and stops it. A package calls it from its TestMain.
func Main(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	assets, err := findAssets()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server := &envtest.Environment{
		BinaryAssetsDirectory: assets,
		ErrorIfCRDPathMissing: true,
		CRDDirectoryPaths:     []string{filepath.Join(Root(), "config/crd/bases")},
	}
	// Also when Start fails, since it may have got as far as the CRDs.
	defer func() {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the kube-apiserver:", err)
		}
	}()
	cfg, err := server.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "start a kube-apiserver for the tests:", err)
		return 1
	}
	if err := sweep(); err != nil {
		fmt.Fprintln(os.Stderr, "watch over the kube-apiserver:", err)
		return 1
	}
	if shared, err = newEnv(cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared.server = server
	return m.Run()
}

// sweep starts a child that ends the servers once the test binary has ended without Stop: a time-out, say, or a signal.
func sweep() error {
	script := `pids=$(ps -o pid=,comm= --ppid "$0" | awk '$2 == "etcd" || $2 == "kube-apiserver" { print $1 }')
		while kill -0 "$0" 2>/dev/null; do sleep 1; done
		kill -9 $pids 2>/dev/null`
	cmd := exec.Command("/bin/sh", "-c", script, strconv.Itoa(os.Getpid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

func newEnv(cfg *rest.Config) (*Env, error) {
	cfg.QPS = -1
	cfg.Burst = -1 // the server's own fairness is enough
	scheme := kruntime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	withWatch, err := client.NewWithWatch(cfg, client.Options{Scheme: scheme})
	return &Env{Config: cfg, Client: withWatch, Scheme: scheme}, err
}

// Get returns the API server of the test binary.
func Get(t testing.TB) *Env {
	t.Helper()
	if shared == nil {
		t.Fatal("call kubetest.Main from this package's TestMain")
	}
	return shared
}

// NewNamespace makes a namespace of the test's own.
func (e *Env) NewNamespace(t testing.TB) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}
	if err := e.Client.Create(t.Context(), ns); err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	return ns.Name
}

// Root is the repository's folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../..")
}

// findAssets looks in KUBEBUILDER_ASSETS, then where test/cluster/build.sh puts its programs.
func findAssets() (string, error) {
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		return dir, nil
	}
	script := filepath.Join(Root(), "test/cluster/build.sh")
	out, err := exec.Command(script, "--print-bin").Output() //nolint:gosec // the repository's own script
	dir := strings.TrimSpace(string(out))
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "kube-apiserver"))
	}
	if err != nil {
		return "", fmt.Errorf("these tests need a kube-apiserver: run test/cluster/build.sh envtest (%w)", err)
	}
	return dir, nil
}
