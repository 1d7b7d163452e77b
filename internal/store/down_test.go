package store_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// anID is a valid id of everything that has a UUID as its id.
const anID = "00000000-0000-4000-8000-000000000001"

// argument returns a value of a type with which a method has something to ask the server. Texts are those given.
func argument(t reflect.Type, text string) reflect.Value {
	switch t.Kind() {
	case reflect.String:
		return reflect.ValueOf(text).Convert(t)
	case reflect.Pointer:
		p := reflect.New(t.Elem())
		p.Elem().Set(argument(t.Elem(), text))
		return p
	case reflect.Struct:
		return structure(t, text)
	case reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64:
		return reflect.ValueOf(int64(time.Second)).Convert(t)
	case reflect.Slice:
		list := reflect.MakeSlice(t, 1, 1)
		list.Index(0).Set(argument(t.Elem(), text))
		return list
	case reflect.Map:
		m := reflect.MakeMap(t)
		m.SetMapIndex(argument(t.Key(), text), argument(t.Elem(), text))
		return m
	case reflect.Func:
		return reflect.MakeFunc(t, func([]reflect.Value) []reflect.Value { return results(t) })
	}
	return reflect.New(t).Elem()
}

// structure returns a struct whose exported fields are arguments, and whose tenant is one.
func structure(t reflect.Type, text string) reflect.Value {
	value := reflect.New(t).Elem()
	if t == reflect.TypeFor[time.Time]() {
		return reflect.ValueOf(time.Now())
	}
	for i := range t.NumField() {
		if field := t.Field(i); field.Name == "Tenant" {
			value.Field(i).Set(argument(field.Type, acme))
		} else if field.IsExported() {
			value.Field(i).Set(argument(field.Type, text))
		}
	}
	return value
}

func results(f reflect.Type) (list []reflect.Value) {
	for i := range f.NumOut() {
		list = append(list, reflect.New(f.Out(i)).Elem())
	}
	return list
}

// errorOf calls a method and returns the error among its results; asked is false for a method without one.
func errorOf(ctx context.Context, method reflect.Value) (err error, asked bool) {
	signature := method.Type()
	args := make([]reflect.Value, signature.NumIn())
	text := acme // the tenant comes before other texts
	for i := range args {
		args[i] = argument(signature.In(i), text)
		switch signature.In(i).Kind() {
		case reflect.Interface:
			args[i] = reflect.ValueOf(ctx)
		case reflect.String:
			text = anID
		}
	}
	n := signature.NumOut()
	if n == 0 || signature.Out(n-1) != reflect.TypeFor[error]() {
		return nil, false
	}
	err, _ = method.Call(args)[n-1].Interface().(error)
	return err, true
}

// TestServerThatIsDown checks that each call of each handle reports that the database is unavailable while its server
// is down: callers answer 503 or try again because of that error alone.
func TestServerThatIsDown(t *testing.T) {
	t.Parallel()
	pg := pgtest.NewServer(t, pgtest.Bin15(t), false)
	migrate(t, pg)
	handles := map[string]any{
		"operator":  storetest.Open(t, pg.OperatorDSN, store.OpenOperator),
		"dataplane": storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane),
	}
	oper, _ := handles["operator"].(*store.Operator)
	role, err := oper.EnsureUploadRole(t.Context(), acme, "pw")
	if err != nil {
		t.Fatal(err)
	}
	dsn, err := oper.UploadDSN(role, "pw")
	if err != nil {
		t.Fatal(err)
	}
	handles["upload"] = storetest.Open(t, dsn, store.OpenUpload)
	pg.StopFast(t)
	offline := map[string]bool{"UploadDSN": true} // asks no server
	for name, handle := range handles {
		value := reflect.ValueOf(handle)
		for i := range value.NumMethod() {
			method := value.Type().Method(i).Name
			t.Run(name+"/"+method, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				err, asked := errorOf(ctx, value.Method(i))
				if asked && !offline[method] && !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%v, want ErrUnavailable", err)
				}
			})
		}
	}
}

// TestLostConnectionOfTheOperator loses the connection before each statement of each method of the operator in turn. The
// method reports it. The methods of the data plane have a test of their own.
func TestLostConnectionOfTheOperator(t *testing.T) {
	t.Parallel()
	fixture := newFixture(t)
	fixture.reseed(t)
	wire := fixture.NewWire(t)
	db, err := store.OpenOperator(
		t.Context(), pgtest.At(t, fixture.OperatorDSN, wire.Address), store.Options{MaxConns: 2},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	value := reflect.ValueOf(db)
	for i := range value.NumMethod() {
		method := value.Type().Method(i).Name
		t.Run(method, func(t *testing.T) {
			for n := range mostStatements {
				// A method with connections of its own leaves those of the pool, which are lost too, to the next callers.
				err := db.Ping(t.Context())
				for range db.Stat().MaxConns() {
					if err != nil {
						err = db.Ping(t.Context())
					}
				}
				if err != nil {
					t.Fatalf("the connection that is back: %v", err)
				}
				wire.LoseAfter(n)
				err, asked := errorOf(t.Context(), value.Method(i))
				if !wire.Restore() {
					return
				}
				if asked && err == nil {
					t.Errorf("without statement %d it reports success", n+1)
				}
				if asked && n == 0 && !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("without a statement: %v, want ErrUnavailable", err)
				}
			}
			t.Errorf("it sends more than %d statements", mostStatements)
		})
	}
}
