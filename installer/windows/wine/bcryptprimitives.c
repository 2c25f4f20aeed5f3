/* Wine 8 lacks this library, which programs of Rust take their random numbers from. For trials under Wine only. */
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE place, SIZE_T bytes) { return SystemFunction036(place, (ULONG)bytes); }
