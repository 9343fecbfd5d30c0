/* The readers of each thread, one a flavour: the one thing that stable Rust cannot define itself.
 * Zero is their right initial value: a thread is born flagged and unregistered (src/word/). */

struct rcu_notrace_reader {
	_Alignas(64) unsigned char bytes[64];
};

#ifdef RCU_NOTRACE_PORTABLE
__thread struct rcu_notrace_reader rcu_notrace_reader2[2]
	__attribute__((tls_model("initial-exec"), visibility("default")));

/* Without an instruction for it, the address comes from the compiler. */
__attribute__((visibility("hidden"), no_instrument_function)) void *rcu_notrace_self(void);
void *rcu_notrace_self(void)
{
	return rcu_notrace_reader2;
}
#else
__thread struct rcu_notrace_reader rcu_notrace_reader[2]
	__attribute__((tls_model("initial-exec"), visibility("default")));
#endif
