// peer: the comparison peer of verification/bench/go_peer.py, a small reconciler on controller-runtime.
//
// For each EnvelopeEvent it makes the calls to eSAW that verification/bench/plain_script.py makes, does the same to the same kind of
// folder, and writes the status three times, after the same phases as Counterfoil's controller. Two things set the pace
// apart from the defaults of controller-runtime: the number of concurrent reconciles is a flag, and the client has no
// rate limit. It knows one organization, one sender and one archive, retries what failed as controller-runtime does, and
// has nothing else of Counterfoil. It reports nothing: the bench measures it from outside.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// settings are the flags of the program, besides --kubeconfig, which controller-runtime defines.
type settings struct {
	namespace   string
	esaw        string
	token       string
	root        string
	health      string
	concurrency int
}

func main() {
	var chosen settings
	flag.StringVar(&chosen.namespace, "namespace", "", "namespace of the events")
	flag.StringVar(&chosen.esaw, "esaw", "", "base URL of eSAW")
	flag.StringVar(&chosen.token, "token", "", "token of the sender of all envelopes")
	flag.StringVar(&chosen.root, "root", "", "folder in which the envelopes are archived")
	flag.StringVar(&chosen.health, "health", "", "address (host:port) of /readyz")
	flag.IntVar(&chosen.concurrency, "concurrency", 32, "number of events at the same time")
	flag.Parse()
	if err := run(chosen); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

// run reconciles events until the process is asked to end.
func run(chosen settings) error {
	if chosen.namespace == "" || chosen.esaw == "" || chosen.root == "" {
		return errors.New("--namespace, --esaw and --root are needed")
	}
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	// No rate limit: 32 reconciles write more often than the client's default of 20 requests a second.
	config.QPS = -1
	scheme := runtime.NewScheme()
	addToScheme(scheme)
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 scheme,
		Metrics:                metrics.Options{BindAddress: "0"},
		HealthProbeBindAddress: chosen.health,
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{chosen.namespace: {}},
			// As Counterfoil's watch: finished events need no memory.
			ByObject: map[client.Object]cache.ByObject{
				&EnvelopeEvent{}: {Field: fields.OneTermNotEqualSelector("status.phase", phaseSucceeded)},
			},
		},
	})
	if err != nil {
		return err
	}
	reconciler := &eventReconciler{
		client: manager.GetClient(),
		esaw:   newEsawClient(chosen.esaw, chosen.token, chosen.concurrency),
		root:   chosen.root,
	}
	if err := manager.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := reconciler.setUp(manager, chosen.concurrency); err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
