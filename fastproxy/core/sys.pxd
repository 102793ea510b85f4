# Externs of libc and the kernel.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int32_t, int64_t, uintptr_t
from libc.string cimport memcpy, memmove, memset, memcmp, memchr, strlen
from libc.errno cimport errno, EAGAIN, EEXIST, EINTR, EINPROGRESS, EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPERM, EPIPE, ECONNRESET, EINVAL

cdef extern from "native.h" nogil:
    bint likely "fp_likely"(bint)
    bint unlikely "fp_unlikely"(bint)
    int FP_DEBUG_BUILD
    void fp_assert(bint)
    void fp_memory_init()
    void fp_own(int)
    void fp_balance()
    void *malloc "fp_malloc"(size_t)
    void *calloc "fp_calloc"(size_t, size_t)
    void *realloc "fp_realloc"(void *, size_t)
    void free "fp_free"(void *)
    uint64_t fp_clock_ns()
    void fp_count(uint64_t *, uint64_t)
    void fp_count32(uint32_t *, uint32_t)
    uint64_t fp_load(const uint64_t *)
    uint32_t fp_load32(const uint32_t *)
    void fp_store(uint64_t *, uint64_t)
    void fp_store32(uint32_t *, uint32_t)
    uint8_t fp_load8(const uint8_t *)
    void fp_store8(uint8_t *, uint8_t)
    int32_t fp_atomic_add32(int32_t *, int32_t)
    int32_t fp_atomic_load32(const int32_t *)
    void fp_atomic_store32(int32_t *, int32_t)
    uint64_t fp_load_acquire(const uint64_t *)
    void fp_store_release(uint64_t *, uint64_t)
    void fp_store_ordered(uint64_t *, uint64_t)
    int32_t fp_load_ordered32(const int32_t *)
    void fp_store_ordered32(int32_t *, int32_t)
    bint fp_claim32(int32_t *)
    void fp_release32(int32_t *)
    int32_t fp_ref_add(int32_t *, int32_t)
    int fp_flag_load(const int *)
    void fp_flag_store(int *, int)
    void *fp_ptr_load(void **)
    void fp_ptr_store(void **, void *)
    int fp_ctz64(uint64_t)
    int fp_clz64(uint64_t)
    uint32_t fp_bucket(uint64_t)
    const uint32_t fp_buf_sizes[4]

cdef extern from "errors_gen.h" nogil:
    const uint16_t error_statuses[1]
    const char *const error_names[1]
    const char *const error_sentences[1]
    const char *const error_flags[1]

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int, void *, size_t)
    ssize_t write(int, const void *, size_t)
    int close(int)

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int, int, ...)
    int F_SETPIPE_SZ, F_GETPIPE_SZ, O_NONBLOCK, O_CLOEXEC
    ssize_t splice(int, int64_t *, int, int64_t *, size_t, unsigned int)
    unsigned int SPLICE_F_MOVE, SPLICE_F_NONBLOCK

cdef extern from *:
    """
    #include <unistd.h>
    #include <fcntl.h>
    """
    int pipe2(int *, int) nogil

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        uint16_t sa_family
    cdef struct sockaddr_storage:
        uint16_t ss_family
    cdef struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    int socket(int, int, int)
    int connect(int, const sockaddr *, socklen_t)
    int bind(int, const sockaddr *, socklen_t)
    int accept4(int, sockaddr *, socklen_t *, int)
    int shutdown(int, int)
    ssize_t send(int, const void *, size_t, int)
    ssize_t recv(int, void *, size_t, int)
    ssize_t sendmsg(int, const msghdr *, int)
    int getsockopt(int, int, int, void *, socklen_t *)
    int setsockopt(int, int, int, const void *, socklen_t)
    int getsockname(int, sockaddr *, socklen_t *)
    int AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC
    int SOL_SOCKET, SO_ERROR, SO_LINGER, SO_KEEPALIVE
    int MSG_NOSIGNAL, MSG_DONTWAIT, MSG_PEEK, MSG_MORE
    int SHUT_WR, SHUT_RDWR
    cdef struct linger:
        int l_onoff
        int l_linger

cdef extern from "<netinet/in.h>" nogil:
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct in6_addr:
        uint8_t s6_addr[16]
    cdef struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    cdef struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    int IPPROTO_TCP
    uint16_t htons(uint16_t)
    uint16_t ntohs(uint16_t)

cdef extern from "<netinet/tcp.h>" nogil:
    int TCP_NODELAY

cdef extern from "<sys/un.h>" nogil:
    cdef struct sockaddr_un:
        uint16_t sun_family
        char sun_path[108]

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int, const char *, void *)
    const char *inet_ntop(int, const void *, char *, socklen_t)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void *ptr
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)
    uint32_t EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLERR, EPOLLHUP, EPOLLET, EPOLLEXCLUSIVE
    int EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLL_CLOEXEC

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int, int)
    int EFD_NONBLOCK, EFD_CLOEXEC

cdef extern from "<sys/timerfd.h>" nogil:
    int timerfd_create(int, int)
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    cdef struct itimerspec:
        timespec it_interval
        timespec it_value
    int timerfd_settime(int, int, const itimerspec *, itimerspec *)
    int TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME

cdef extern from "<time.h>" nogil:
    int CLOCK_MONOTONIC
    ctypedef long time_t
    cdef struct tm:
        int tm_sec
    time_t time(time_t *)
    tm *gmtime_r(const time_t *, tm *)
    size_t strftime(char *, size_t, const char *, const tm *)

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_create(pthread_t *, void *, void *(*)(void *) noexcept nogil, void *)
    int pthread_join(pthread_t, void **)
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_setname_np(pthread_t, const char *)
    pthread_t pthread_self()

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int sigfillset(sigset_t *)
    int pthread_sigmask(int, const sigset_t *, sigset_t *)
    int SIG_SETMASK

cdef extern from "<stdio.h>" nogil:
    int snprintf(char *, size_t, const char *, ...)

cdef extern from "<math.h>" nogil:
    double exp(double)
