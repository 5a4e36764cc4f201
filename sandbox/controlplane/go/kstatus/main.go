// kstatus: what tools make of objects, by their own rules.
//
// Objects come as JSON, one after another, on standard input. For each, one line of JSON goes to standard output:
// the status that kstatus computes (Flux and kubectl plugins ask it), the health of a Lua script for Argo CD, if the
// first argument names one, and the status that Flux computes by healthCheckExprs, if the second argument names a file
// with them as JSON (current, inProgress, failed).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type answer struct {
	Status  string `json:"status"`
	Message string `json:"message"`
	Health  string `json:"health,omitempty"`
	Flux    string `json:"flux,omitempty"`
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func run(arguments []string, in io.Reader, out io.Writer) error {
	script := ""
	if len(arguments) > 0 {
		text, err := os.ReadFile(arguments[0])
		if err != nil {
			return err
		}
		script = string(text)
	}
	var flux *cel.StatusEvaluator
	if len(arguments) > 1 {
		text, err := os.ReadFile(arguments[1])
		if err != nil {
			return err
		}
		expressions := &kustomize.HealthCheckExpressions{}
		if err := json.Unmarshal(text, expressions); err != nil {
			return err
		}
		if flux, err = cel.NewStatusEvaluator(expressions); err != nil {
			return err
		}
	}
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var text json.RawMessage
		if err := decoder.Decode(&text); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		found, err := ask(text, script, flux)
		if err != nil {
			return err
		}
		if err := encoder.Encode(found); err != nil {
			return err
		}
	}
}

func ask(text []byte, script string, flux *cel.StatusEvaluator) (answer, error) {
	object := &unstructured.Unstructured{}
	// Its own decoder: the numbers of kstatus are int64, and no floats.
	if err := object.UnmarshalJSON(text); err != nil {
		return answer{}, err
	}
	computed, err := status.Compute(object)
	if err != nil {
		return answer{}, err
	}
	found := answer{Status: computed.Status.String(), Message: computed.Message}
	if script != "" {
		if found.Health, err = health(object.Object, script); err != nil {
			return answer{}, err
		}
	}
	if flux != nil {
		evaluated, err := flux.Evaluate(context.Background(), object)
		if err != nil {
			return answer{}, err
		}
		found.Flux = evaluated.Status.String()
	}
	return found, nil
}

// health runs a script as Argo CD does: the object is the global `obj`, and there are no other libraries than these.
func health(object map[string]any, script string) (string, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.BaseLibName: lua.OpenBase,
		lua.TabLibName:  lua.OpenTable,
	} {
		library := lua.P{Fn: state.NewFunction(open), NRet: 0, Protect: true}
		if err := state.CallByParam(library, lua.LString(name)); err != nil {
			return "", err
		}
	}
	state.SetGlobal("obj", luaValue(state, object))
	if err := state.DoString(script); err != nil {
		return "", err
	}
	returned, isTable := state.Get(-1).(*lua.LTable)
	if !isTable {
		return "", errors.New("the script returned no table")
	}
	return lua.LVAsString(returned.RawGetString("status")), nil
}

func luaValue(state *lua.LState, value any) lua.LValue {
	switch known := value.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, inner := range known {
			table.RawSetString(key, luaValue(state, inner))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, inner := range known {
			table.Append(luaValue(state, inner))
		}
		return table
	case string:
		return lua.LString(known)
	case bool:
		return lua.LBool(known)
	case int64:
		return lua.LNumber(known)
	case float64:
		return lua.LNumber(known)
	}
	return lua.LNil
}
