"""The loss of supervised fine-tuning (LLaDA, arXiv 2502.09992, eq. 5 and its SFT guideline)."""

from torch import Tensor
from torch.nn import functional


def sft_loss(logits: Tensor, clean_ids: Tensor, masked: Tensor, p: Tensor, response_length: Tensor) -> Tensor:
    """LLaDA's loss for fine-tuning: cross-entropy on masked positions, divided by p and by the response length of the
    row, and averaged over rows.

    This is the plain form over full logits. The chunked loss that training uses is tested against it.

    Args:
        logits: [B, T, V], aligned with the input.
        clean_ids: [B, T] tokens before masking.
        masked: bool [B, T], true where a token was masked.
        p: [B] masking probability of each row.
        response_length: [B] number of response tokens, including appended end tokens.

    Returns:
        A scalar, in nats.
    """
    token_nll = functional.cross_entropy(logits.float().transpose(1, 2), clean_ids, reduction="none")  # [B, T]
    row_loss = (token_nll * masked).sum(dim=1) / p / response_length
    return row_loss.mean()


def loss_weights(masked: Tensor, p: Tensor, response_length: Tensor, rows: int | Tensor) -> Tensor:
    """The factor of each masked position, row by row: [N]. The weighted sum of cross-entropies is `sft_loss`.

    Args:
        rows: number of rows of the global batch, across ranks and accumulation steps.
    """
    row_weight = 1 / (p * response_length * rows)  # [B]
    return row_weight[:, None].expand(masked.shape)[masked]
