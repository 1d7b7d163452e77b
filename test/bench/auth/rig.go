package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

const (
	tenantID  = "bench/auth"
	tenantUID = "00000000-0000-4000-8000-000000000000"
	namespace = "default"
	users     = 64
	pageSize  = 50
	// seededCalls are there to be listed.
	seededCalls  = 500
	userPassword = "ochre lantern drifts sideways"
)

func userEmail(n int) string { return fmt.Sprintf("user-%d@bench.example", n) }

// rig is the server under test with all that it needs, and users who are signed in.
type rig struct {
	o      options
	dir    string
	kube   *envtest.Environment
	server *dataPlane
	tokens []string
	floods int
}

func newRig(ctx context.Context, o options) (_ *rig, err error) {
	r := &rig{o: o, kube: &envtest.Environment{BinaryAssetsDirectory: os.Getenv("KUBEBUILDER_ASSETS")}}
	if r.dir, err = os.MkdirTemp("", "caly-bench-auth-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"start a kube-apiserver", r.startKube},
		{"fill the database", r.seed},
		{"add users", r.addUsers},
		{"start the data plane", r.startServer},
		{"sign in", r.signIn}} {
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return r, nil
}

func (r *rig) close() {
	if r.server != nil {
		r.server.stop()
	}
	_ = r.kube.Stop()
	_ = os.RemoveAll(r.dir)
}

// startKube starts a kube-apiserver that knows the tenant's config and the keys, as the operator writes them.
func (r *rig) startKube(ctx context.Context) error {
	cfg, err := r.kube.Start()
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.kubeconfig(), r.kube.KubeConfig, 0o600); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	config, err := tenantconfig.EncodeTenant(tenantconfig.Tenant{
		Version:            tenantconfig.Version,
		ID:                 tenantID,
		UID:                tenantUID,
		TimeZone:           "Asia/Kolkata",
		Freshness:          tenantconfig.DefaultFreshness,
		AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
		Auth: &tenantconfig.Auth{
			AccessTokenLifetime: tenantconfig.MaxAccessTokenLifetime,
			SessionLifetime:     tenantconfig.DefaultSessionLifetime,
		},
	})
	if err != nil {
		return err
	}
	ring, err := keyring.Encode(keyring.New(time.Now()))
	if err != nil {
		return err
	}
	for _, s := range []*corev1.Secret{
		secret(tenantconfig.SecretName(tenantconfig.PrefixTenant, tenantID), v1alpha1.SecretTypeTenantConfig,
			tenantconfig.Key, config),
		secret(keyring.SecretName, v1alpha1.SecretTypeKeyring, keyring.DataKey, ring),
		secret(tenantconfig.ListSecretName, v1alpha1.SecretTypeTenantConfigList, tenantconfig.ListKey, []byte{}),
	} {
		if _, err := client.CoreV1().Secrets(namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) kubeconfig() string { return filepath.Join(r.dir, "kubeconfig") }

func secret(name, kind, key string, value []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Type:       corev1.SecretType(kind),
		Data:       map[string][]byte{key: value},
	}
}

// seed adds the calls that are listed, and for pgbench a copy of their table that no policy guards.
func (r *rig) seed(ctx context.Context) error {
	if err := inDatabase(
		ctx, r.o.dsnDataplane, fmt.Sprintf(`SELECT set_config('caly.tenant', '%s', false)`, tenantID),
		fmt.Sprintf(
			`INSERT INTO calls (tenant, call_sid, state, direction, from_number, to_number, started_at, ended_at,
				conversation_seconds, custom_field, created_at)
			SELECT '%s', md5(n::text), 4, 'outbound-api', '+919876543210', '+919123456789', at,
				at + interval '5 minutes', 280, 'order_' || n, at
			FROM generate_series(1, %d) n, LATERAL (SELECT now() - n * interval '1 minute') t (at)`,
			tenantID, seededCalls,
		),
	); err != nil {
		return err
	}
	// The owner sees no calls, since row-level security binds the owner too: the copy is filled again.
	return inDatabase(
		ctx, r.o.dsnOwner, `CREATE TABLE bench_calls (LIKE calls INCLUDING ALL)`,
		fmt.Sprintf(
			`INSERT INTO bench_calls (tenant, call_sid, state, direction, from_number, to_number, started_at,
				ended_at, conversation_seconds, custom_field, created_at)
			SELECT '%s', md5(n::text), 4, 'outbound-api', '+919876543210', '+919123456789', at,
				at + interval '5 minutes', 280, 'order_' || n, at
			FROM generate_series(1, %d) n, LATERAL (SELECT now() - n * interval '1 minute') t (at)`,
			tenantID, seededCalls,
		),
		`ANALYZE calls`, `ANALYZE bench_calls`,
	)
}

func inDatabase(ctx context.Context, dsn string, statements ...string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// addUsers adds users who may sign in, all with one password.
func (r *rig) addUsers(ctx context.Context) error {
	db, err := store.OpenDataplane(ctx, r.o.dsnDataplane, store.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	hash, err := password.NewHasher(password.Options{}).Hash(ctx, userPassword)
	if err != nil {
		return err
	}
	for n := range users {
		if err := addUser(ctx, db, userEmail(n), hash); err != nil {
			return err
		}
	}
	return nil
}

// addUser registers a user and verifies the email.
func addUser(ctx context.Context, db *store.Dataplane, email, passwordHash string) error {
	user := store.NewUser{ID: store.NewID(), Email: email, PasswordHash: passwordHash, Role: store.RoleViewer}
	code := store.EmailCode{Hash: bytes.Repeat([]byte{1}, 32), Lifetime: time.Hour}
	if err := db.Register(ctx, tenantID, store.Registration{User: user, Code: code}, store.Origin{}); err != nil {
		return err
	}
	ok, err := db.VerifyEmail(ctx, tenantID, store.Verification{
		Email:     email,
		Hash:      code.Hash,
		Confirmed: passwordHash,
	}, store.Origin{})
	if err == nil && !ok {
		err = fmt.Errorf("%s: the code was rejected", email)
	}
	return err
}

func (r *rig) startServer(ctx context.Context) (err error) {
	r.server, err = startDataPlane(ctx, r.o, r.kubeconfig())
	return err
}

// signIn gets an access token for each user, through the API.
func (r *rig) signIn(ctx context.Context) error {
	for n := range users {
		token, err := login(ctx, userEmail(n))
		if err != nil {
			return err
		}
		r.tokens = append(r.tokens, token)
	}
	return nil
}

func login(ctx context.Context, email string) (string, error) {
	body, err := json.Marshal(map[string]string{"email": email, "password": userPassword})
	if err != nil {
		return "", err
	}
	q, err := http.NewRequestWithContext(
		ctx, http.MethodPost, "http://"+publicAddress+"/t/"+tenantID+"/api/auth/login", bytes.NewReader(body),
	)
	if err != nil {
		return "", err
	}
	q.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	var got struct{ AccessToken string }
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil || got.AccessToken == "" {
		return "", fmt.Errorf("%s is answered %s, without a token (%w)", email, answer.Status, err)
	}
	return got.AccessToken, nil
}
